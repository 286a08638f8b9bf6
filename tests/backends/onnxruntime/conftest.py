"""An int8 bundle whose attention is as it was exported."""

from __future__ import annotations

from pathlib import Path

import pytest

from satexport.backends.onnxruntime import write
from tests.backends.compiled import compiled


@pytest.fixture(scope="session")
def unfused(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An int8 bundle of `tiny` whose attention is as it was exported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "fuse_attention", lambda model: (model, 0))
        return compiled(tiny, "cpu-int8", tmp_path_factory.mktemp("unfused"))
