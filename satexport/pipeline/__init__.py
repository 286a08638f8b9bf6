"""Export, build and prove a bundle; build its engines on a board."""
