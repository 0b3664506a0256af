"""From images and data sets to what a model takes, and from its scores to names."""
