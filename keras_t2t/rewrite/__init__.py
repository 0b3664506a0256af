"""Equal, faster forms of parts of the graph."""
