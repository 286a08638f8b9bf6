"""Families of audio taggers, and their checkpoints."""
