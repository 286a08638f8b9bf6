"""Fixtures for tests of checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from satexport.models.sat.network import Transformer
from tests.models.checkpoints import SAT_T, State


@pytest.fixture
def own_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test an empty cache folder."""
    monkeypatch.setenv("SATEXPORT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Use one thread: on a busy machine, several threads of a small model wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def sat_t() -> State:
    """The state dict of the model itself, independent of `expected_shapes`."""
    return dict(Transformer(SAT_T).state_dict())
