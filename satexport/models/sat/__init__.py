"""Streaming Audio Transformers, the ViTs that they were made from, and CED, ViTs with other weights."""
