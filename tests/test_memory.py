"""The memory that streams need, the available memory, and the error if it is too small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from satexport import memory
from satexport.bundle.contract import ANY, Contract, GraphOptions, history_bytes, state_bytes
from satexport.errors import UsageError
from satexport.memory import available_bytes
from satexport.models.sat.variants import find_model
from satexport.tagging.tagger import check_streams, load
from tests.machine import needs_proc
from tests.models.sat.graphs import contract_of

GB = 10**9
FLOAT = 4  # bytes


def contract(model: str = "sat-t", delay: int = 2, options: GraphOptions = GraphOptions()) -> Contract:  # noqa: B008
    return contract_of(find_model(model)[delay], options=options)


# The memory that streams need.

@pytest.mark.parametrize(("model", "delay", "options", "numbers"), [
    ("sat-t", 2, GraphOptions(), 12 * 2 * 3 * 48 * 64),
    ("sat-t", 2, GraphOptions(cache="hidden"), 12 * 48 * 192),
    ("sat-b", 1, GraphOptions(), 12 * 2 * 12 * 24 * 64),
    ("sat-s", 1, GraphOptions(), 48 * 384 + 11 * 2 * 6 * 48 * 64),  # layer 0 keeps hidden tokens
    ("vit-t", 10, GraphOptions(), 0)])
@pytest.mark.parametrize("streams", [1, 8, ANY])
def test_the_state_size_is_that_of_one_streams_cache(
        model: str, delay: int, options: GraphOptions, numbers: int, streams: int) -> None:
    options = GraphOptions(cache=options.cache, streams=streams)
    assert state_bytes(contract(model, delay, options)) == FLOAT * numbers


def test_the_state_size_is_that_of_the_shipped_initial_cache(demo: Path) -> None:
    bundle = load(demo).bundle
    assert state_bytes(bundle.contract) == sum(array.nbytes for array in bundle.initial_cache())


def test_the_earlier_audio_of_a_window_is_state(
        random_window: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = load(random_window).contract
    assert state_bytes(contract) == history_bytes(contract) == 9 * 16_000 * FLOAT
    chunk = replace(contract, hop_samples=contract.window_samples)
    assert history_bytes(chunk) == 0
    needs = []
    for one in (contract, chunk):
        monkeypatch.setattr("satexport.tagging.tagger.available_bytes", lambda: 0)
        with pytest.raises(UsageError) as caught:
            check_streams(one, 10_000)
        needs.append(float(str(caught.value).split(" GB")[0].split()[-1]))
    assert needs[0] - needs[1] == pytest.approx(10_000 * 2 * history_bytes(contract) / GB, abs=0.11)


def test_only_as_many_streams_as_fit_into_memory_are_accepted(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satexport.tagging.tagger.available_bytes", lambda: GB)
    with pytest.raises(UsageError) as caught:
        check_streams(contract(), 10_000)
    words = str(caught.value)
    need, free = (float(part.split()[-1]) for part in words.split(" GB")[:2])
    assert words.startswith("10000 streams of sat-t-2s need about ")
    assert need > 10_000 * 2 * state_bytes(contract()) / GB  # two copies of each cache
    assert free == 1.0
    fit = int(words.removesuffix(".").split(" ")[-1])
    assert fit == pytest.approx(10_000 / need, rel=0.01)
    check_streams(contract(), fit)
    with pytest.raises(UsageError):
        check_streams(contract(), fit + 1)


def test_if_not_even_one_stream_fits_no_number_is_suggested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satexport.tagging.tagger.available_bytes", lambda: 1000)
    with pytest.raises(UsageError, match="too little for one") as caught:
        check_streams(contract(), 2)
    assert "Ask for" not in str(caught.value)


def test_if_the_memory_is_unknown_any_number_of_streams_is_accepted(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satexport.tagging.tagger.available_bytes", lambda: None)
    check_streams(contract(), 10**9)


def test_a_tagger_refuses_more_streams_than_fit(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tagger = load(demo)
    assert len(tagger.streams()) == 1
    monkeypatch.setattr("satexport.tagging.tagger.available_bytes", lambda: 1000)
    with pytest.raises(UsageError, match="streams of sat-t-2s need"):
        tagger.streams()


# The available memory.

@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GB available and a control group without a limit; its files may be modified."""
    (tmp_path / "meminfo").write_text("MemTotal:       16000000 kB\nMemFree:          500000 kB\n"
                                      "MemAvailable:    8000000 kB\nHugePages_Total:       0\n")
    for name, text in (("memory.max", "max\n"), ("memory.current", f"{3 * GB}\n"),
                       ("memory.stat", f"anon {2 * GB}\nfile {GB}\ninactive_file 0\nactive_file 0\n")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    return tmp_path


@needs_proc
def test_the_available_memory_is_between_zero_and_the_total() -> None:
    found = available_bytes()
    assert found is not None
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text("utf-8").splitlines())
    assert 0 < found <= 1024 * int(lines["MemTotal"].split()[0])


def test_memory_available_without_swapping_counts(machine: Path) -> None:
    assert available_bytes() == 8_000_000 * 1024


def test_the_limit_of_a_container_counts_if_it_is_smaller(machine: Path) -> None:
    (machine / "memory.max").write_text(f"{4 * GB}\n")
    assert available_bytes() == GB
    (machine / "memory.max").write_text(f"{64 * GB}\n")
    assert available_bytes() == 8_000_000 * 1024


def test_the_file_cache_of_a_container_counts_as_available(machine: Path) -> None:
    (machine / "memory.max").write_text(f"{2 * GB}\n")
    assert available_bytes() == 0
    (machine / "memory.max").write_text(f"{3 * GB}\n")
    (machine / "memory.stat").write_text(f"anon {GB}\ninactive_file {GB // 2}\nactive_file {GB // 4}\n")
    assert available_bytes() == GB // 2 + GB // 4


@pytest.mark.parametrize("name", ["memory.max", "memory.current", "memory.stat"])
@pytest.mark.parametrize("text", [None, "", "nonsense\n"])
def test_without_control_group_data_the_machines_memory_counts(
        name: str, text: str | None, machine: Path) -> None:
    (machine / "memory.max").write_text(f"{4 * GB}\n")
    if text is None:
        (machine / name).unlink()
    else:
        (machine / name).write_text(text)
    assert available_bytes() == 8_000_000 * 1024


def test_without_any_data_the_memory_is_unknown(machine: Path) -> None:
    (machine / "meminfo").unlink()
    assert available_bytes() is None
    (machine / "memory.max").write_text(f"{4 * GB}\n")
    assert available_bytes() == GB
