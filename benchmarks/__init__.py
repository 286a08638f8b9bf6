"""Measurements of satexport itself: results tables, choices of int8, sounds that could be slow."""
