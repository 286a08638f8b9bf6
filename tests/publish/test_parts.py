"""Which bundles `satexport hub` refuses, and what its message says to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from satexport.files import sha256_of
from satexport.publish import graphs
from satexport.publish.config import usual_precision
from satexport.publish.parts import open_parts
from tests.bundle.copies import change_bundle, copy_of
from tests.publish.bundles import refused, trained, with_reports, with_target, with_weights_apart


def changed(bundle: Path, folder: Path, target: str = "cpu-int8", **contract: Any) -> Path:
    """A copy in another precision whose contract has other values."""
    def change(manifest: dict[str, Any]) -> None:
        for key, value in contract.items():
            old = manifest["contract"][key]
            manifest["contract"][key] = old | value if isinstance(value, dict) else value

    return change_bundle(with_target(bundle, folder, target), change)


@pytest.mark.parametrize(("target", "reason"), [
    ("openvino-fp32", "is for openvino: its graph is in OpenVINO's format"),
    ("jetson-orin-nano", "is for tensorrt: an engine runs only on the board that built it")])
def test_a_bundle_that_other_runtimes_cannot_run_is_refused(
        target: str, reason: str, tiny: Path, tmp_path: Path) -> None:
    message = refused(with_target(tiny, tmp_path, target), "-o", tmp_path / "hub")
    assert reason in message
    assert "make one with `satexport onnx`" in message


def test_two_bundles_of_one_precision_are_refused(tiny: Path, tmp_path: Path) -> None:
    other = with_target(tiny, tmp_path, "cpu-fp32")
    message = refused(tiny, other, "-o", tmp_path / "hub")
    assert f"{tiny} and {other} are both fp32; expected one bundle for each precision" in message


@pytest.mark.parametrize(("contract", "reason"), [
    ({"checkpoint": {"sha256": "0" * 64}}, "the checkpoint's SHA-256 of the first is "),
    ({"options": {"cache": "hidden"}}, "the kind of the cache of the first is kv, of the second hidden"),
    ({"front_end": {"n_fft": 1}}, "the front end of the first is "),
    ({"hop_samples": 16_000, "window_samples": 16_000,
      "input": {"shape": [1, 16_000]}}, "the input of the first is ")])
def test_bundles_that_do_not_belong_together_are_refused(
        contract: dict[str, Any], reason: str, tiny: Path, tmp_path: Path) -> None:
    message = refused(tiny, changed(tiny, tmp_path, **contract), "-o", tmp_path / "hub")
    assert reason in message
    assert "Make both from one export, or write a folder for each" in message
    assert not (tmp_path / "hub").exists()


def test_another_data_type_of_the_cache_is_refused(tiny: Path, tmp_path: Path) -> None:
    other = changed(tiny, tmp_path, options={"cache_dtype": "int8"})
    message = refused(tiny, other, "-o", tmp_path / "hub")
    assert "the data type of the cache of the first is fp32, of the second int8" in message


def test_caches_that_begin_differently_are_refused(tiny: Path, tmp_path: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"]["initial_cache.npy"]["sha256"] = sha256_of(cache)

    other = with_target(tiny, tmp_path, "cpu-int8")
    cache = other / "initial_cache.npy"
    cache.write_bytes(cache.read_bytes()[:-1] + b"x")
    change_bundle(other, change)
    assert "begin with different caches" in refused(tiny, other, "-o", tmp_path / "hub")


def test_a_fixed_number_of_streams_is_refused(tiny: Path, tmp_path: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        contract = manifest["contract"]
        contract["options"]["streams"] = 3
        for spec in (contract["input"], contract["scores"], *contract["cache_in"], *contract["cache_out"]):
            spec["shape"][0] = 3

    message = refused(change_bundle(copy_of(tiny, tmp_path), change), "-o", tmp_path / "hub")
    assert "is for 3 streams in each step" in message
    assert "Export again without --streams, or with --streams dynamic" in message


def test_a_bundle_that_takes_features_is_refused(tiny: Path, tmp_path: Path) -> None:
    mel = changed(tiny, tmp_path, options={"input": "mel"}, input={"name": "mel", "shape": [1, 64, 201]})
    message = refused(mel, "-o", tmp_path / "hub")
    assert "takes mel features" in message
    assert "without --input" in message


@pytest.mark.parametrize("change", [
    {"variant": "x\n---\nlicense: mit"}, {"family": "[sat](https://example.com)"},
    {"input": {"name": 'audio": 0}); import os  #'}}, {"scores": {"name": "a-b"}}])
def test_names_that_could_be_code_or_markup_are_refused(
        change: dict[str, Any], tiny: Path, tmp_path: Path) -> None:
    message = refused(changed(tiny, tmp_path, **change), "-o", tmp_path / "hub", code=4)
    assert "cannot be a name in a model card" in message


def test_a_damaged_bundle_beside_a_good_one_leaves_nothing(tiny: Path, tmp_path: Path) -> None:
    damaged = copy_of(tiny, tmp_path)
    (damaged / "labels.txt").write_text("x")
    refused(tiny, damaged, "-o", tmp_path / "hub", code=4)
    assert not (tmp_path / "hub").exists()


def test_a_graph_that_changes_while_it_is_read_is_not_published(
        tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apart = with_weights_apart(copy_of(tiny, tmp_path))
    monkeypatch.setattr(graphs, "sha256_of", lambda path: 64 * "0")
    for bundle in (tiny, apart):
        assert "was overwritten while it was read" in refused(bundle, "-o", tmp_path / "hub", code=4)


def test_a_graph_that_is_too_large_for_one_file_is_refused(
        tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MAX_GRAPH", 1000)
    assert "one file can have at most" in refused(tiny, "-o", tmp_path / "hub")


def test_the_usual_precision_is_the_smallest_graph_that_is_proven(tiny: Path, tmp_path: Path) -> None:
    fp32 = with_weights_apart(trained(tiny, tmp_path))   # so it is a little larger
    int8 = trained(with_target(tiny, tmp_path, "cpu-int8"), tmp_path / "int8")
    found = [usual_precision(open_parts([fp32, int8]))]
    for bundle in (fp32, int8):
        with_reports(bundle)
        found.append(usual_precision(open_parts([fp32, int8])))
    (fp32 / "reports" / "parity.json").unlink()
    found.append(usual_precision(open_parts([fp32, int8])))
    assert found == ["fp32", "fp32", "int8", "int8"]


@pytest.mark.parametrize("licence", ["my licence", "", "-x", "a" * 99])
def test_a_licence_that_is_no_identifier_is_refused(licence: str, tiny: Path, tmp_path: Path) -> None:
    assert "expected a" in refused(tiny, "-o", tmp_path / "hub", f"--license={licence}") or not licence
