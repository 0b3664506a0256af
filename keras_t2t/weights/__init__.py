"""Published weights: reading, mapping and loading them."""
