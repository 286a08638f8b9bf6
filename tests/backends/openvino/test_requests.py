"""Streams that several infer requests share, and the cache of compiled models."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from satexport.backends.openvino import lanes
from satexport.bundle.contract import ANY, GraphOptions
from satexport.bundle.folder import open_bundle
from satexport.errors import RunError
from satexport.origin import cores
from satexport.step import FloatArray
from satexport.tagging.tagger import Tagger, load
from tests.backends.compiled import compiled, compiled_model
from tests.bundle.copies import copy_of, manifest_of, reseal
from tests.commands.calls import call
from tests.machine import need
from tests.tiny import SAT, VIT, export

need("openvino", "openvino")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four streams of a small model, which the target shares between two requests."""
    folder = tmp_path_factory.mktemp("shared")
    source = export(folder, SAT, 2, "random", GraphOptions(streams=4), use_onnxsim=False)
    return compiled(source, "openvino-throughput", folder)


@pytest.fixture(scope="module")
def sharing(shared: Path) -> Tagger:
    return load(shared)


def test_streams_that_two_requests_share_are_computed_at_the_same_time(shared: Path, sharing: Tagger) -> None:
    import openvino

    model = openvino.Core().read_model(shared / "model.xml")
    assert list(model.input("audio").shape) == [2, 32_000]  # of one request
    assert len(sharing.step.initial_cache(4)) == 2
    assert compiled_model(sharing).get_property("NUM_STREAMS") == min(2, cores())
    assert compiled_model(sharing).get_property("PERFORMANCE_HINT") == "THROUGHPUT"


def test_outputs_stay_as_they_are_when_the_next_step_runs(
        tiny: Path, tmp_path: Path, audio: FloatArray) -> None:
    step = load(compiled(tiny, "openvino-fp32", tmp_path)).step
    chunks = audio[:64_000].reshape(2, 1, 32_000)
    outputs, cache = step(chunks[0], step.initial_cache(1))
    before = outputs.scores.copy()
    later, _ = step(chunks[1], cache)
    assert not np.array_equal(later.scores, before)
    np.testing.assert_array_equal(outputs.scores, before)


def test_streams_that_do_not_divide_among_the_requests_are_refused(
        tmp_path: Path, quick: tuple[object, ...]) -> None:
    output = tmp_path / "build"
    result = call("openvino", "--target", "openvino-throughput", "--model", VIT, "--checkpoint", "random",
                  "--streams", "3", "--output", output, *quick)
    assert result.code == 2
    assert "among 2 requests" in result.err
    assert "the export has 3 streams; expected a multiple of 2" in result.err


def test_any_number_of_streams_is_as_many_requests(
        tmp_path: Path, quick: tuple[object, ...], tiny: Path, audio: FloatArray) -> None:
    output = tmp_path / "build"
    result = call("openvino", "--fp32", "--model", SAT, "--checkpoint", "random", "--streams", "dynamic",
                  "--output", output, *quick)
    assert result.code == 0, result.err
    tagger = load(output / f"{SAT}-2s" / "openvino-fp32-dynamic")
    sounds = audio[:5 * 96_000].reshape(5, -1)
    found = tagger.streams(5).feed(sounds)
    assert len(tagger.step.initial_cache(5)) == 5
    for lane, sound in enumerate(sounds):
        np.testing.assert_allclose(found[:, lane], load(tiny).stream().feed(sound), atol=2e-5)


def fail_once(monkeypatch: pytest.MonkeyPatch, number: int, kind: str) -> None:
    """Let the request `number` of the next step fail before it computes, by the error of this call."""
    real, seen, left = lanes._errors, list[object](), [RuntimeError("the device is gone")]

    def errors(call: Callable[[], object]) -> list[Exception]:
        request, name = getattr(call, "__self__", None), getattr(call, "__name__", "")
        if request not in seen:
            seen.append(request)
        if not left or seen.index(request) != number:
            return real(call)
        return [left.pop()] if name == kind else []

    monkeypatch.setattr(lanes, "_errors", errors)


@pytest.fixture(scope="module", params=["stateful", "explicit", "dynamic", "stateless"])
def four(request: pytest.FixtureRequest, sharing: Tagger, tmp_path_factory: pytest.TempPathFactory) -> Tagger:
    """Four streams of a small model, which share two requests or have one each."""
    if request.param == "stateful":
        return sharing
    model, streams, target = {"explicit": (SAT, 4, "openvino-throughput-explicit"),
                              "dynamic": (SAT, ANY, "openvino-fp32"),
                              "stateless": (VIT, 4, "openvino-throughput")}[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    source = export(folder, model, 2, "random", GraphOptions(streams=streams), use_onnxsim=False)
    return load(compiled(source, target, folder))


@pytest.mark.parametrize(("number", "kind"), [
    (0, "wait"), (1, "start_async"), *(pytest.param(*case, marks=pytest.mark.long) for case in (
        (0, "start_async"), (1, "wait")))])
def test_after_a_step_that_failed_in_one_request_the_same_chunk_gives_the_same_scores(
        four: Tagger, monkeypatch: pytest.MonkeyPatch, audio: FloatArray, number: int, kind: str) -> None:
    chunks = audio[:4 * 96_000].reshape(4, 3, -1).swapaxes(0, 1)
    streams = four.streams(4)
    expected = [streams.feed(chunk) for chunk in chunks]
    streams.reset()
    np.testing.assert_array_equal(streams.feed(chunks[0]), expected[0])
    none = chunks[1][:, :0]
    for samples, which in ((chunks[1], number), (none, 0)):  # the second time it is the only one that runs
        with monkeypatch.context() as patch:
            fail_once(patch, which, kind)
            with pytest.raises(RunError, match="OpenVINO failed in a step: the device is gone"):
                streams.feed(samples)
    np.testing.assert_array_equal(streams.feed(none), expected[1])
    np.testing.assert_array_equal(streams.feed(chunks[2]), expected[2])


def test_after_a_step_that_failed_in_one_request_a_single_stream_can_be_reset(
        four: Tagger, sharing: Tagger, monkeypatch: pytest.MonkeyPatch, audio: FloatArray) -> None:
    chunks = audio[:4 * 96_000].reshape(4, 3, -1).swapaxes(0, 1)
    stream = 0 if four is sharing else 3
    streams = four.streams(4)
    streams.feed(chunks[0])
    streams.reset(stream)
    expected = streams.feed(np.where(np.arange(4)[:, None] == stream, 0, chunks[1]))
    streams.reset()
    streams.feed(chunks[0])
    with monkeypatch.context() as patch:
        fail_once(patch, 0, "wait")
        with pytest.raises(RunError, match="the device is gone"):
            streams.feed(chunks[1])
    streams.reset(stream)
    np.testing.assert_array_equal(streams.feed(chunks[1][:, :0]), expected)


def test_a_stream_whose_request_is_ahead_of_a_step_that_failed_is_not_reset_by_itself(
        sharing: Tagger, monkeypatch: pytest.MonkeyPatch, audio: FloatArray) -> None:
    chunk = audio[:4 * 32_000].reshape(4, -1)
    streams = sharing.streams()
    expected = streams.feed(chunk)
    streams.reset()
    with monkeypatch.context() as patch:
        fail_once(patch, 0, "wait")
        with pytest.raises(RunError, match="the device is gone"):
            streams.feed(chunk)
    with pytest.raises(RunError, match=r"stream 3 cannot be reset by itself: .* feed again first, or reset"):
        streams.reset(3)
    np.testing.assert_array_equal(streams.feed(chunk[:, :0]), expected)
    streams.reset(3)


@pytest.fixture(scope="module", params=[
    "openvino-fp32", pytest.param("openvino-int8", marks=pytest.mark.long)])
def usual(request: pytest.FixtureRequest, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tiny, request.param, tmp_path_factory.mktemp("usual"))


@pytest.fixture
def keeping(usual: Path, tmp_path: Path) -> Path:
    """A bundle whose target keeps the compiled model."""
    path = copy_of(usual, tmp_path)
    manifest = manifest_of(path)
    manifest["target"]["openvino"]["model_cache"] = True
    (path / "bundle.json").write_text(json.dumps(manifest))
    reseal(path)
    return path


def test_what_openvino_compiled_is_kept_and_used(
        keeping: Path, usual: Path, tmp_path: Path, audio: FloatArray, monkeypatch: pytest.MonkeyPatch,
        ) -> None:
    monkeypatch.setenv("SATEXPORT_CACHE", str(tmp_path / "cache"))
    one = load(usual)
    expected = one.stream().feed(audio[:96_000])
    assert not (tmp_path / "cache").exists()
    for from_cache in (False, True):
        tagger = load(keeping)
        assert compiled_model(tagger).get_property("LOADED_FROM_CACHE") is from_cache
        assert tagger.step.executed() == one.step.executed()
        np.testing.assert_array_equal(tagger.stream().feed(audio[:96_000]), expected)
    (kept,) = (tmp_path / "cache" / "openvino").glob("*/*.blob")
    assert kept.parent.name == open_bundle(keeping).sha256  # another bundle never finds it
    kept.chmod(0o600)
    for content in (kept.read_bytes()[:1000], b"", b"garbage" * 99):  # damaged: compiled again
        kept.write_bytes(content)
        np.testing.assert_array_equal(load(keeping).stream().feed(audio[:96_000]), expected)


def test_a_model_cache_that_cannot_be_written_is_named(
        keeping: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SATEXPORT_CACHE", str(tmp_path / "file"))
    result = call("parity", keeping, "--golden")
    assert result.code == 5, result.err
    assert re.search(r"keeps the compiled model \(model_cache\).*cannot be written \(Not a dir"
                     r"ectory\).*SATEXPORT_CACHE=DIR", result.err), result.err
