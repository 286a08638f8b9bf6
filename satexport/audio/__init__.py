"""Sounds in: files, recordings with labels, synthetic sounds."""
