"""BEATs: audio transformers with convolutional positions and gated relative position bias."""
