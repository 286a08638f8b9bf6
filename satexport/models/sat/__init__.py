"""Streaming Audio Transformers (SAT), ViTs without a cache, and CED, which has the architecture of a ViT."""
