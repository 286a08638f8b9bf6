"""Serving tables: those that ship, and what is wrong in one of a user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from satexport.errors import DataError, UsageError
from satexport.triton.serving import FOLDER, find_serving, shipped
from tests import ROOT

USUAL = (FOLDER / "triton-cpu.toml").read_text("utf-8")


def test_the_shipped_tables_are_named_like_their_files() -> None:
    assert FOLDER == ROOT / "serving"
    assert [table.name for table in shipped()] == ["triton-cpu", "triton-gpu"]
    assert [table.device for table in shipped()] == ["cpu", "gpu"]


@pytest.mark.parametrize(("old", "new", "found"), [
    ("instances = 1", "instance = 1", "unknown key 'instance'"),
    ('device = "cpu"', 'device = "npu"', "device is 'npu', expected cpu or gpu"),
    ('device = "cpu"', 'device = "gpu"\nthreads = 2', "threads is 2, expected no such key"),
    ("max_batch_size = 64", "max_batch_size = 0", "max_batch_size is 0, expected 1 to 4096"),
    ("max_batch_size = 64", "max_batch_size = 32",
     "preferred_batch_sizes is [16, 64], expected numbers from 1 to max_batch_size, 32"),
    ("max_batch_size = 64", "max_batch_size = 64.5", "max_batch_size is 64.5, expected a whole number"),
    ("instances = 1", "instances = 0", "instances is 0, expected 1 to 256"),
    ("instances = 1", "threads = 0", "threads is 0, expected 1 to 256; omit the key"),
    ("max_queue_delay_ms = 20", "max_queue_delay_ms = nan", "max_queue_delay_ms is nan"),
    ("max_queue_delay_ms = 20", "max_queue_delay_ms = -1", "expected 0 to 60000"),
    ("max_microphones = 1024", "", "the key 'max_microphones' is missing"),
    ("max_idle_s = 30", "max_idle_s = 0", "max_idle_s is 0, expected more than 0"),
    ("max_idle_s = 30", "max_idle_s = inf", "max_idle_s is inf"),
    ('name = "triton-cpu"', 'name = "../x"', "name is '../x'"),
    ('name = "triton-cpu"', "name = ", "is not a readable TOML")])
def test_a_wrong_table_is_refused_by_its_key(old: str, new: str, found: str, tmp_path: Path) -> None:
    assert old in USUAL
    (tmp_path / "mine.toml").write_text(USUAL.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError) as error:
        find_serving(str(tmp_path / "mine.toml"))
    assert found in error.value.message
    assert str(tmp_path / "mine.toml") in error.value.message


def test_an_unknown_table_lists_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"no serving table 'big'; expected one of triton-cpu, triton-gpu"):
        find_serving("big")
