"""Streaming Audio Transformers, and the ViTs that they were made from."""
