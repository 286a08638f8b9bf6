"""Pages of a mapped file of weights are released after the model was compiled."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from satexport.backends.openvino.pages import release_mapped_pages
from tests.machine import needs_proc


@needs_proc
def test_pages_of_a_mapped_file_are_given_back_and_come_again(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(bytes(range(256)) * 40_000)
    values = np.memmap(file, np.uint8, "r")

    def resident() -> int:
        """Bytes of the file in memory."""
        lines = iter(Path("/proc/self/smaps").read_text("utf-8").splitlines())
        next(line for line in lines if line.endswith(str(file)))
        return 1024 * int(next(line for line in lines if line.startswith("Rss:")).split()[1])

    total = int(values.sum(dtype=np.int64))
    assert resident() >= len(values)
    with release_mapped_pages(file):
        pass
    assert resident() == 0
    with release_mapped_pages(file):
        assert int(values.sum(dtype=np.int64)) == total
