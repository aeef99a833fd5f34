"""The reviewers' pages. Each view parses, calls a service or selector, and renders."""
