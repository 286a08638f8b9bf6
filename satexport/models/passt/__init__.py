"""Patchout faSt Spectrogram Transformers (PaSST)."""
