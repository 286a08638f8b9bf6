"""Patches of a spectrogram, the tokens of several families."""

from __future__ import annotations

from typing import Final

PATCH: Final = 16        # frames and mel bands of a patch
EXTRA_TOKENS: Final = 2  # class token and distillation token, in front of the patches


def patch_count(length: int, stride: int) -> int:
    """Return the number of patches along an axis; what remains behind the last one is not read."""
    return (length - PATCH) // stride + 1
