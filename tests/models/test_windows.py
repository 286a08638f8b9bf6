"""Variants with a window longer than the delay: names, graphs, weights and what is refused."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from satexport.bundle.contract import USUAL_OPTIONS, CheckpointOrigin
from satexport.errors import CheckpointError, UsageError
from satexport.models.checkpoint import load_checkpoint, recognize_variant
from satexport.models.families import (
    all_variants,
    find_family,
    find_paper_figures,
    find_variant,
    named_variant,
)
from satexport.models.family import Published, Variant
from satexport.models.sat.published import PUBLISHED
from satexport.models.sat.variants import VARIANTS
from satexport.pipeline.export import make_contract
from satexport.tagging.tagger import load
from tests.models.checkpoints import hollow, save_torch
from tests.models.sat.graphs import contract_of
from tests.tiny import WINDOW, export

STATELESS = [variant for variant in all_variants() if not variant.memory_steps and variant.window > 1]


@pytest.mark.parametrize("chunk", STATELESS, ids=lambda variant: variant.name)
def test_every_model_without_a_cache_has_a_window_of_each_of_its_chunks(chunk: Variant) -> None:
    variant = find_variant(chunk.model, 1, chunk.window)
    assert (variant.name, variant.chunk_name) == (f"{chunk.model}-1s-window-{chunk.window}s", chunk.name)
    assert named_variant(variant.name) == variant
    assert (variant.hop_samples, variant.window_samples) == (chunk.sample_rate, chunk.window_samples)
    assert variant.memory_steps == chunk.window - 1
    family = find_family(variant.family)
    assert family.interface(variant, 5, USUAL_OPTIONS) == family.interface(chunk, 5, USUAL_OPTIONS)


@pytest.mark.parametrize(("delay", "window", "steps"), [
    (1, 10, 9), (2, 10, 4), (3, 10, 3), (5, 10, 1), (9, 10, 1), (10, 10, 0), (1, 2, 1), (1, 1, 0)])
def test_the_scores_depend_on_every_step_that_the_window_reaches_back_to(
        delay: int, window: int, steps: int) -> None:
    assert find_variant("vit-t", delay, window).memory_steps == steps


def test_a_window_is_scored_every_second_by_default_and_one_as_long_as_the_delay_is_a_chunk() -> None:
    assert find_variant("vit-t", window=10) == find_variant("vit-t", 1, 10)
    assert find_variant("vit-t", 10, 10) == find_variant("vit-t", 10)
    assert find_variant("vit-t", 10, 10).name == "vit-t-10s"


@pytest.mark.parametrize(("model", "delay", "window", "words"), [
    ("vit-t", 10, 2, "--delay 10 --window 2: expected a delay from 1 s to the window"),
    ("vit-t", 0, 2, "--delay 0 --window 2: expected a delay from 1 s to the window"),
    ("vit-t", 1, 5, "vit-t has no window of 5 s; it has 1, 2, 10"),
    ("vit-t", None, 0, "vit-t has no window of 0 s; it has 1, 2, 10"),
    ("sat-t", 1, 2, "sat-t keeps a cache of what it heard before: leave --window out"),
    ("sat-s-48x3", None, 2, "sat-s-48x3 keeps a cache"),
    ("vit-x", 1, 10, "unknown model 'vit-x'")])
def test_an_impossible_window_is_wrong_use(
        model: str, delay: int | None, window: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_variant(model, delay, window)


@pytest.mark.parametrize("name", [
    "vit-t-10s-window-10s", "vit-t-10s-window-1s", "vit-t-1s-window-3s", "vit-t-1s-window-010s",
    "vit-t-window-10s", "sat-t-1s-window-2s", "vit-t-1s-window-10s-window-10s", "vit-t-1s-window-10s\n"])
def test_an_impossible_name_is_wrong_use(name: str) -> None:
    with pytest.raises(UsageError):
        named_variant(name)


@pytest.mark.parametrize("model", [WINDOW, *(
    pytest.param(model, marks=pytest.mark.long) for model in ("mn01", "ast-48x3x2x96"))])
def test_the_graph_is_that_of_a_chunk_as_long_as_the_window(model: str, tmp_path: Path) -> None:
    window = export(tmp_path, model, 1, "random", use_onnxsim=False, window=2)
    chunk = export(tmp_path, model, 2, "random", use_onnxsim=False)
    graphs = []
    for path in (window, chunk):
        graph = onnx.load(path / "model.onnx").graph
        graph.name = ""
        graphs.append(graph.SerializeToString(deterministic=True))
    assert graphs[0] == graphs[1]
    contract = load(chunk).contract
    assert load(window).contract == replace(contract, variant=f"{model}-1s-window-2s", memory_steps=1,
                                            hop_samples=contract.sample_rate)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with the shapes of a published vit-s."""
    return save_torch(tmp_path / "mine.pt", hollow(VARIANTS["vit-s", 2]))


def test_a_file_is_recognized_and_read_for_a_window(file: Path) -> None:
    variant = recognize_variant(str(file), None, 10)
    assert variant == find_variant("vit-s", 1, 10)
    assert recognize_variant(str(file), 3, 10) == find_variant("vit-s", 3, 10)
    assert load_checkpoint(str(file), variant).variant == variant


def test_the_advice_on_another_file_keeps_the_window(file: Path) -> None:
    with pytest.raises(CheckpointError, match=r"looks like vit-s .* --model vit-s --window 10 --delay 2"):
        load_checkpoint(str(file), find_variant("vit-b", 2, 10))


def test_the_published_file_serves_a_window(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[Published] = []

    def fetch(published: Published) -> AbstractContextManager[Path]:
        fetched.append(published)
        return nullcontext(file)

    monkeypatch.setattr("satexport.models.checkpoint.fetch_published", fetch)
    load_checkpoint("published", find_variant("vit-s", 1, 10))
    assert fetched == [*PUBLISHED["vit-s-10s"]]


def test_the_figures_of_a_paper_are_those_of_the_chunk_that_a_step_takes() -> None:
    found = find_paper_figures(contract_of(VARIANTS["vit-b", 10]))
    window = make_contract(find_variant("vit-b", 1, 10), 527, USUAL_OPTIONS, labels_sha256="",
                           checkpoint=CheckpointOrigin(name="", source="random", sha256=""))
    assert find_paper_figures(window) == found
    assert [figures.gflops for figures in found] == [42]
