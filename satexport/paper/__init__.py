"""The tables and the figure of papers, with the figures that are measured here beside the published ones."""
