"""Streams of audio, and what is heard in them."""
