"""Measure the memory and speed of bundles."""
