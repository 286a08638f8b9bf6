"""Small blocks, as a microphone gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from satexport.step import FloatArray
from satexport.tagging.tagger import load


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_a_caller_may_reuse_the_buffer_of_its_blocks(tiny: Path, audio: FloatArray, dtype: type) -> None:
    tagger, block = load(tiny), 320
    sound: NDArray[Any] = (audio[:2 * 32_000] * (32767 if dtype is np.int16 else 1)).astype(dtype)
    buffer: NDArray[Any] = np.empty(block, dtype)
    expected, stream = tagger.stream().feed(sound), tagger.stream()
    rows = []
    for start in range(0, len(sound), block):
        buffer[:] = sound[start:start + block]
        rows.append(stream.feed(buffer))
        buffer[:] = 0
    np.testing.assert_array_equal(np.concatenate(rows), expected)
