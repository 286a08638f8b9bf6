"""Run a bundle on streams of audio."""
