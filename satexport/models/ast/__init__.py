"""Audio Spectrogram Transformers (AST)."""
