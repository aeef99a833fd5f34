"""Pages of labels, training and models. Each view parses, calls a service or selector, and renders."""
