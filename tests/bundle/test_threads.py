"""How many threads a bundle is loaded with if nobody says: as few as live streams need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import satexport
from satexport.bundle import threads
from satexport.bundle.contract import ANY
from satexport.bundle.folder import Bundle, open_bundle
from satexport.bundle.threads import live_threads


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 8)


def with_work(path: Path, gflops: float, streams: int = 1, threads: int | None = None) -> Bundle:
    """A bundle whose audio takes `gflops` GFLOP/s for each stream, half of them in the front end."""
    bundle = open_bundle(path)
    options = replace(bundle.contract.options, streams=streams)
    operations = int(gflops * 1e9 * bundle.contract.hop_seconds)
    return replace(bundle, contract=replace(bundle.contract, options=options),
                   target=replace(bundle.target, threads=threads),
                   operations={"model": operations // 2, "front_end": operations - operations // 2})


def test_a_model_gets_a_thread_for_each_five_gigaflops_and_at_most_all_cores(tiny: Path) -> None:
    for gflops, expected in ((0, 1), (0.3, 1), (4.9, 1), (5.1, 2), (32, 7), (500, 8)):
        assert live_threads(with_work(tiny, gflops)) == expected


def test_streams_of_one_step_add_up_and_an_open_number_counts_as_one(tiny: Path) -> None:
    assert live_threads(with_work(tiny, 3, streams=8)) == 5
    assert live_threads(with_work(tiny, 7, streams=ANY)) == 2


def test_a_window_longer_than_its_hop_is_computed_once_every_hop(random_window: Path) -> None:
    assert live_threads(with_work(random_window, 7)) == 2


def test_the_number_of_the_target_comes_first(tiny: Path) -> None:
    assert live_threads(with_work(tiny, 500, threads=2)) == 2
    assert live_threads(with_work(tiny, 0.3, threads=16)) == 16


@pytest.mark.parametrize(("given", "expected"), [
    ({}, (1, "0")), ({"threads": 3}, (3, "0")), ({"threads": 3, "spinning": True}, (3, "1"))])
def test_onnx_runtime_gets_one_thread_that_sleeps_unless_more_is_asked_for(
        tiny: Path, given: dict[str, int], expected: tuple[int, str]) -> None:
    with satexport.load(tiny, **given) as tagger:  # type: ignore[arg-type]
        options = tagger.step._session.get_session_options()  # type: ignore[attr-defined]
        assert (options.intra_op_num_threads,
                options.get_session_config_entry("session.intra_op.allow_spinning")) == expected
