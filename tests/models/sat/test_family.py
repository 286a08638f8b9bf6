"""SAT and ViT as a family: what the exporter needs from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from satexport.bundle.contract import USUAL_OPTIONS, GraphOptions, cache_bytes
from satexport.errors import CheckpointError, UsageError
from satexport.files import download_folder
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import check_options
from satexport.models.family import Published
from satexport.models.published import fetch_published
from satexport.models.sat import family
from satexport.models.sat.variants import VARIANTS, Variant, find_model
from satexport.tagging.tagger import load
from tests.commands.calls import call

TWO_DEEP = "48x3x2"


def small(model: str, delay: int) -> Variant:
    return find_model(f"{model}-{TWO_DEEP}")[delay]


@pytest.mark.parametrize(("model", "delay", "layers"), [("sat-t", 2, 2), ("sat-s", 1, 2), ("vit-s", 1, 0)])
def test_a_model_of_another_depth_is_exported_and_proven(
        model: str, delay: int, layers: int, tmp_path: Path) -> None:
    variant = small(model, delay)
    result = call("onnx", "--model", variant.model, "--delay", delay, "--checkpoint", "random",
                  "--output", tmp_path)
    assert result.code == 0
    contract = load(tmp_path / variant.name / "onnx").contract
    assert len(contract.cache_in) == layers
    assert contract.memory_steps == variant.memory_steps


@pytest.mark.parametrize(("model", "delay"), [("sat-t", 2), ("sat-s", 1), ("vit-t", 2)])
def test_the_state_of_the_reference_is_hidden_tokens_as_published(model: str, delay: int) -> None:
    variant = small(model, delay)
    reference = family.reference(load_checkpoint("random", variant))
    options = GraphOptions(cache="hidden") if variant.has_cache else USUAL_OPTIONS
    assert reference.state_bytes() == cache_bytes(family.interface(variant, 527, options).cache_in)


def test_an_export_of_a_sat_s_file_asks_the_user_to_check_its_delay(tmp_path: Path) -> None:
    for model, warned in (("sat-s", True), ("sat-t", False), ("vit-s", False)):
        variant = small(model, 1)
        save_file(load_checkpoint("random", variant).state, tmp_path / f"{model}.safetensors")
        result = call("onnx", "--model", variant.model, "--delay", 1, "--output", tmp_path,
                      "--checkpoint", tmp_path / f"{model}.safetensors")
        assert result.code == 0
        assert ("make sure that this one was trained for 1 s" in result.err) == warned
        report = json.loads((tmp_path / variant.name / "onnx" / "reports" / "export.json").read_text("utf-8"))
        assert (report["caution"] is not None) == warned
        assert not warned or report["caution"] in result.err


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
def test_a_model_without_a_cache_does_not_take_the_option_cache(variant: Variant) -> None:
    check_options(variant, GraphOptions(input="mel", streams=8))
    if variant.has_cache:
        check_options(variant, GraphOptions(cache="hidden"))
    else:
        with pytest.raises(UsageError, match=f"{variant.name} has no cache: leave --cache out"):
            check_options(variant, GraphOptions(cache="hidden"))


def test_a_file_that_does_not_have_the_published_hash_is_refused(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATEXPORT_CACHE", str(tmp_path))
    path = download_folder() / "published" / "a.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    published = Published(url="http://127.0.0.1:9/a.pt", file="a.pt", sha256="0" * 64)
    with pytest.raises(CheckpointError, match=r"expected 0{64} as published"), fetch_published(published):
        pass
    assert [file.name for file in path.parent.iterdir()] == ["a.pt"]
