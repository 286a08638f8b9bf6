"""Every command refuses a bundle that needs a newer version, and says so. A device runs a bundle if this
version supports all that the device needs. A damaged contract is reported as damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satexport.bundle.contract import SCHEMA, GraphOptions
from satexport.bundle.folder import open_bundle
from satexport.errors import BundleError
from satexport.pipeline import build
from satexport.step import FloatArray
from satexport.tagging.tagger import load
from tests.bundle.copies import Change, change_bundle, copy_of
from tests.commands.calls import call
from tests.tiny import TINY, export

EMBEDDING = {"name": "embedding", "shape": [1, 48], "dtype": "float32"}
USES: dict[str, tuple[object, ...]] = {
    "run": ("run", "BUNDLE", "-"), "golden": ("parity", "BUNDLE", "--golden"),
    "parity": ("parity", "BUNDLE", "--minutes", 0.1),
    "measure": ("measure", "BUNDLE", "--steps", 2, "--pause", 0.01, "--no-eager"),
    "cpu": ("cpu", "--fp32", "--from", "BUNDLE"), "openvino": ("openvino", "--fp32", "--from", "BUNDLE"),
    "trt": ("trt", "--fp16", "--from", "BUNDLE")}


def use(name: str, bundle: Path) -> tuple[int, str]:
    """Exit code and standard error of a command that uses a bundle."""
    words = [bundle if word == "BUNDLE" else word for word in USES[name]]
    if name in ("cpu", "openvino", "trt"):
        words += ["--output", bundle.parents[1] / "out", "--no-measure", "--minutes", 0.1]
    result = call(*words, stdin=bytes(2 * 32_000))
    return result.code, result.err


@pytest.fixture
def bundle(tiny: Path, tmp_path: Path) -> Path:
    """A bundle to change."""
    return copy_of(tiny, tmp_path)


def change_schema(manifest: dict[str, Any]) -> None:
    manifest["schema"] = manifest["contract"]["schema"] = SCHEMA + 1


def change_window(manifest: dict[str, Any]) -> None:
    contract = manifest["contract"]
    contract["window_samples"] *= 2
    contract["input"]["shape"][1] *= 2


def change_role(manifest: dict[str, Any]) -> None:
    manifest["roles"][next(iter(manifest["roles"]))] = "convolution 03.mix"


def change_input(manifest: dict[str, Any]) -> None:
    contract = manifest["contract"]
    contract["options"]["input"], contract["input"] = "waveform-and-text", {
        "name": "both", "shape": [1, 7, 9], "dtype": "float32"}


def change_backend(manifest: dict[str, Any]) -> None:
    manifest["target"]["backend"], manifest["target"]["coreml"] = "coreml", {"units": "all"}


def change_family(manifest: dict[str, Any]) -> None:
    manifest["contract"] |= {"family": "ced", "variant": "ced-mini-2s"}


def change_front_end(manifest: dict[str, Any]) -> None:
    manifest["contract"]["front_end"] = {"name": "cqt", "octaves": 7}


@pytest.mark.parametrize("name", USES)
@pytest.mark.parametrize(("change", "code", "words"), [
    (change_schema, 4, f"has schema {SCHEMA + 1}, this version of satexport reads schema {SCHEMA}: a newer"),
    (change_window, 4, "the window of the graph is 64000 samples and its hop 32000, this version of "
                       "satexport does not support overlapping windows with a cache"),
    (change_role, 4, "the role 'convolution 03.mix', expected one of front_end"),
    (change_input, 4, "the input of the graph is 'waveform-and-text', this version of satexport supports "
                      "audio and mel"),
    (change_backend, 3, "for the backend 'coreml'")])
def test_every_command_refuses_a_bundle_that_needs_a_newer_version(
        change: Change, code: int, words: str, name: str, bundle: Path) -> None:
    found, err = use(name, change_bundle(bundle, change))
    assert (found, words in err, "newer version" in err) == (code, True, True), err
    assert not (bundle.parents[1] / "out").exists()


@pytest.mark.parametrize(("change", "refused"), [
    (change_family, {"parity", "cpu", "openvino", "trt"}), (change_front_end, set())])
def test_an_unknown_model_or_front_end_is_refused_only_if_it_is_needed(
        change: Change, refused: set[str], bundle: Path, audio: FloatArray) -> None:
    expected = load(bundle).stream().feed(audio[:64_000])
    change_bundle(bundle, change)
    np.testing.assert_array_equal(load(bundle).stream().feed(audio[:64_000]), expected)
    for name in ("run", "golden", "measure", *sorted(refused)):
        code, err = use(name, bundle)
        assert (code, "newer version" in err) == ((4, True) if name in refused else (0, False)), err
    assert not (bundle.parents[1] / "out").exists()


def test_an_unknown_model_is_refused_before_the_work(
        bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_write", lambda *_: pytest.fail("this takes long"))
    code, err = use("cpu", change_bundle(bundle, change_family))
    assert (code, "newer version" in err) == (4, True)


@pytest.mark.long
def test_a_bundle_of_an_unknown_model_is_measured_without_pytorch(bundle: Path) -> None:
    result = call("measure", change_bundle(bundle, change_family), "--steps", 2, "--pause", 0.01)
    assert result.code == 0
    assert "ced-mini-2s is not compared with PyTorch: the model is of the family 'ced'" in result.err


def test_an_unknown_front_end_is_refused_before_any_audio_is_processed(tmp_path: Path) -> None:
    path = export(tmp_path, f"sat-t-{TINY}", 2, "random", GraphOptions(input="mel"), use_onnxsim=False)
    change_bundle(path, change_front_end)
    for name in USES:
        code, err = use(name, path)
        words = "needs the front end 'cqt', which this version of satexport does not have"
        assert (code, words in err) == (4, True)


# Damage.

@pytest.mark.parametrize(("change", "words"), [
    (lambda c: c.pop("family"), "the key 'family' is missing"),
    (lambda c: c.update(more=1), "unknown key 'more'"),
    (lambda c: c.update(front_end=["log-mel"]), "front_end is ['log-mel'], expected a table"),
    (lambda c: c.update(tokens={"new": "many"}), "expected a table of whole numbers"),
    (lambda c: c.update(sample_rate=0), "sample_rate is 0, expected 1000 to 384000 Hz"),
    (lambda c: c.update(sample_rate=-16_000), "sample_rate is -16000"),
    (lambda c: c.update(sample_rate=10**9), "sample_rate is 1000000000"),
    (lambda c: c.update(sample_rate=16e3), "sample_rate is 16000.0, expected a whole number"),
    (lambda c: c.update(hop_samples=0), "hop_samples is 0, expected 1 to 32000, the window"),
    (lambda c: c.update(hop_samples=32_001), "hop_samples is 32001"),
    (lambda c: c.update(window_samples=10**12), "window_samples is 1000000000000, expected 1 sample to "),
    (lambda c: c.update(window_samples=16_000, hop_samples=16_000),
     "input is [1, 32000], expected [1, 16000]"),
    (lambda c: c.update(memory_steps=-1), "memory_steps is -1, expected 0 or more"),
    (lambda c: c.update(classes=526), "scores is [1, 527], expected [1, 526]"),
    (lambda c: c["options"].update(embedding="mean"), "embedding is None, expected a tensor if and only if"),
    (lambda c: c.update(embedding=EMBEDDING),
     "embedding is 'embedding', expected a tensor if and only if the options name its kind, which is ''"),
    (lambda c: c.update(embedding=EMBEDDING | {"shape": [2, 48]}, options=c["options"] | {"embedding": "m"}),
     "embedding is [2, 48], expected [1, 1 or more]"),
    (lambda c: c.update(embedding=EMBEDDING | {"dtype": "int8"}, options=c["options"] | {"embedding": "m"}),
     "embedding is 'int8', expected float32"),
    (lambda c: c.update(checkpoint="demo"), "the contract is damaged"),
    (lambda c: c["checkpoint"].update(sha256=None), "sha256 is None"),
    (lambda c: c["options"].update(streams=0), "streams is 0, expected 1 or more"),
    (lambda c: c["options"].update(streams="1"), "streams is '1'"),
    (lambda c: c["input"].update(shape=[1, "32000"]), "expected a list of whole numbers"),
    (lambda c: c["cache_in"][0]["shape"].__setitem__(1, -4), "is [1, -4, "),
    (lambda c: c["cache_out"].pop(), "expected the shapes and dtypes of cache_in"),
    (lambda c: c.update(cache_in=5), "the contract is damaged")])
def test_a_damaged_contract_is_reported_as_damaged(change: Change, words: str, bundle: Path) -> None:
    change_bundle(bundle, lambda manifest: change(manifest["contract"]))
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle)
    assert "the contract is damaged" in str(caught.value)
    assert words in str(caught.value)
    assert "Export the bundle again" in str(caught.value)


def test_a_bundle_for_another_runtime_is_not_accepted_as_an_export(
        openvino_demo: Path, tmp_path: Path) -> None:
    result = call("cpu", "--fp32", "--from", openvino_demo, "--output", tmp_path)
    assert result.code == 2
    assert "is a bundle for openvino; expected the fp32 export that `satexport onnx` makes" in result.err
