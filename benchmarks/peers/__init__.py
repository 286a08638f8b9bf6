"""Satexport beside what a user would run instead, in turns: `python -m benchmarks.peers`."""
