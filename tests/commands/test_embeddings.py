"""`--embedding` of the commands that make bundles, and `satexport run --embeddings`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from satexport.bundle.contract import RANDOM_WEIGHTS
from satexport.bundle.folder import open_bundle
from satexport.step import FloatArray, Outputs
from satexport.tagging.sounds import Chunk
from satexport.tagging.tagger import Tagger, load
from tests.bundle.copies import copy_of
from tests.commands.calls import call, start
from tests.machine import PATIENCE, need
from tests.tiny import SAT, SAT_2S

soundfile = need("soundfile", "audio")
RATE = 16_000  # Hz


@pytest.fixture
def wavs(tmp_path: Path, audio: FloatArray) -> list[Path]:
    """Five seconds, and two of other audio."""
    paths = [tmp_path / "five.wav", tmp_path / "two.wav"]
    for path, sound in zip(paths, (audio[:5 * RATE], audio[9 * RATE:11 * RATE]), strict=True):
        soundfile.write(path, sound, RATE, subtype="PCM_16")
    return paths


# Making bundles.

def test_an_export_with_an_embedding_says_so_and_bundles_made_of_it_have_it(
        tmp_path: Path, quick: tuple[object, ...]) -> None:
    made = call("onnx", "--model", SAT, "--delay", 2, "--checkpoint", "random", "--embedding", "--output",
                tmp_path, "--no-simplify")
    assert made.code == 0
    export = tmp_path / SAT_2S / "onnx-embedding-mean"
    assert f"Bundle: {export}" in made.out
    assert "Embedding of each chunk: mean, 48 numbers." in made.out
    assert "largest relative difference of an embedding" in made.out
    few = tmp_path / "few.toml"
    few.write_text('name = "few"\nsource = "synthetic"\nlicence = "made"\nclips = 28\nsamples = 24\n'
                   'stream_seconds = 40\nseed = 0\n', encoding="utf-8")
    result = call("cpu", "--int8", "--from", export, "--output", tmp_path, "--calibration", few, *quick)
    assert "embeddings compared with PyTorch fp32" in result.out
    assert "median cosine" in result.out
    assert "random weights: rounding errors grow" in result.out  # not judged
    contract = open_bundle(tmp_path / SAT_2S / "cpu-int8-embedding-mean").contract
    assert (contract.options.embedding, contract.outputs[1].shape) == ("mean", (1, 48))
    report = json.loads((tmp_path / SAT_2S / "cpu-int8-embedding-mean" / "reports" / "parity.json"
                         ).read_text("utf-8"))
    assert 0 < report["embeddings"]["0.1 min of stream"]["worst_difference"] < 1


@pytest.mark.parametrize(("words", "message"), [
    (("onnx", "--model", SAT, "--delay", 2, "--embedding", "mb+l"),
     f"{SAT}-2s has no embedding 'mb+l'; expected mean, or leave --embedding out."),
    (("onnx", "--model", "mn10", "--embedding", "mean"),
     "mn10-2s has no embedding 'mean'; expected h-clf1 or mb+l or m-se or h-clf2, or leave"),
    (("onnx", "--model", "mn10-fc", "--embedding", "h-clf2"), "expected h-clf1 or mb+l or m-se, or leave"),
    (("cpu", "--int8", "--model", "ast", "--embedding", "token"),
     "ast-2s has no embedding 'token'; expected tokens, or leave --embedding out."),
    (("cpu", "--int8", "--embedding"),
     "--embedding applies only to a new export: add --model, or leave --embedding out.")])
def test_a_kind_that_the_model_does_not_have_is_refused_before_the_work(
        words: tuple[object, ...], message: str, tmp_path: Path) -> None:
    result = call(*words, "--output", tmp_path)
    assert result.code == 2
    assert message in result.err
    assert not list(tmp_path.iterdir())


def test_models_lists_the_kinds() -> None:
    models = {fact["model"]: fact["embeddings"] for fact in
              json.loads(call("models", "--json").out)["models"]}
    assert list(models["mn10"]) == ["h-clf1", "mb+l", "m-se", "h-clf2"]
    assert models["sat-s"] == {"token": "class token after the last norm"}
    assert "h-clf1, mb+l, m-se, h-clf2" in call("models").out


# Writing embeddings.

def test_the_file_has_a_row_for_each_chunk_of_all_sounds(
        tiny_embedding: Path, wavs: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "new" / "both.npz"
    result = call("run", tiny_embedding, *wavs, "--embeddings", file)
    assert (result.code, result.err) == (0, f"{RANDOM_WEIGHTS}\nEmbeddings of 4 chunks: {file}\n")
    assert result.out == call("run", tiny_embedding, *wavs).out
    with np.load(file, allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files}
    assert arrays["files"].tolist() == [str(path) for path in wavs]
    assert arrays["file_number"].tolist() == [0, 0, 0, 1]
    assert arrays["start"].tolist() == arrays["window_start"].tolist() == [0, 2, 4, 0]
    assert arrays["end"].tolist() == [2, 4, 5, 2]
    assert (arrays["kind"].item(), arrays["model"].item()) == ("mean", SAT_2S)
    assert arrays["bundle_sha256"].item() == open_bundle(tiny_embedding).sha256
    stream, rows = load(tiny_embedding).stream(), []
    for path in wavs:
        sound, _ = soundfile.read(path, dtype="int16")
        stream.reset()
        rows += [stream.feed(sound, outputs=["embedding"])[0], stream.flush(outputs=["embedding"])[0]]
    assert arrays["embedding"].dtype == np.float32
    np.testing.assert_allclose(arrays["embedding"], np.concatenate(rows), atol=1e-6)


def test_a_bad_sound_does_not_cost_the_embeddings_of_the_others(
        tiny_embedding: Path, wavs: list[Path], tmp_path: Path) -> None:
    result = call("run", tiny_embedding, tmp_path / "no.wav", wavs[1], "--embeddings", tmp_path / "a.npz")
    assert result.code == 4
    with np.load(tmp_path / "a.npz") as found:
        assert found["files"].tolist() == [str(tmp_path / "no.wav"), str(wavs[1])]
        assert found["file_number"].tolist() == [1]


def test_the_reader_of_the_tags_may_leave_before_the_embeddings_are_written(
        tiny_embedding: Path, tmp_path: Path, audio: FloatArray) -> None:
    soundfile.write(tmp_path / "minute.wav", audio, RATE)
    process = start("run", tiny_embedding, tmp_path / "minute.wav", "--embeddings", tmp_path / "a.npz")
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(PATIENCE) == 0
    assert "Embeddings of 30 chunks" in process.stderr.read()
    process.stderr.close()
    with np.load(tmp_path / "a.npz") as found:
        assert len(found["embedding"]) == 30


def test_ctrl_c_keeps_the_embeddings_of_a_microphone(
        tiny_embedding: Path, tmp_path: Path, audio: FloatArray) -> None:
    file = tmp_path / "a.npz"
    process = start("run", tiny_embedding, "-", "--embeddings", file, stdin=subprocess.PIPE,
                    before="import signal; signal.signal(signal.SIGINT, signal.default_int_handler)")
    assert process.stdin
    assert process.stdout
    os.write(process.stdin.fileno(), (audio[:5 * RATE] * 32_767).astype("<i2").tobytes())
    for _ in range(3):  # the source and two chunks
        assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert f"Embeddings of 2 chunks: {file}\n" in err
    with np.load(file) as found:
        assert found["files"].tolist() == ["-"]
        assert found["start"].tolist() == [0, 2]
        assert found["embedding"].shape == (2, 48)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_ctrl_c_before_the_first_chunk_leaves_an_earlier_file(
        tiny_embedding: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "a.npz").write_text("mine")
    monkeypatch.setattr("satexport.tagging.sounds.score_blocks", interrupt)
    assert call("run", tiny_embedding, "-", "--embeddings", tmp_path / "a.npz").code == 130
    assert (tmp_path / "a.npz").read_text() == "mine"


def test_what_cannot_be_written_is_refused_before_the_work(
        tiny: Path, tiny_embedding: Path, wavs: list[Path], tmp_path: Path) -> None:
    bundle = copy_of(tiny_embedding, tmp_path)
    (tmp_path / "taken.npz").mkdir()
    sound = tmp_path / "sound.npz"  # a sound in spite of its name
    wavs[1].rename(sound)
    (tmp_path / "file").write_text("mine")
    for path, file, code, words in (
            (tiny, "a.npz", 2, "this bundle has no embedding: export its model with --embedding, or leave "
                               "--embeddings out."),
            (bundle, "taken.npz", 2, "is not a regular file; expected a file name for the embeddings"),
            (bundle, wavs[0], 2, "expected a file name that ends in .npz"),
            (bundle, "sound.npz", 2, "is one of the files that are read, and would be lost"),
            (bundle, "-", 2, "expected a file name for the embeddings"),
            (bundle, bundle / "a.npz", 2, "is inside the bundle"),
            (bundle, bundle / "golden.npz", 2, "is inside the bundle"),
            (bundle, "file/a.npz", 5, "cannot be written")):
        result = call("run", path, wavs[0], sound, "--embeddings", file if file == "-" else tmp_path / file)
        assert (result.code, result.out) == (code, ""), file
        assert words in result.err
    open_bundle(bundle)
    assert len(soundfile.read(sound)[0]) == 2 * RATE


def test_an_earlier_file_stays_if_no_chunk_was_scored(
        tiny_embedding: Path, wavs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text("mine")
    result = call("run", tiny_embedding, tmp_path / "no.wav", "--embeddings", tmp_path / "a.npz")
    assert (result.code, (tmp_path / "a.npz").read_text()) == (4, "mine")
    assert f"No chunk was scored: {tmp_path / 'a.npz'} was not written." in result.err


def test_ctrl_c_between_files_leaves_an_earlier_file(
        tiny_embedding: Path, wavs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def first_only(tagger: Tagger, blocks: object, name: str) -> Iterator[Chunk]:
        if name == str(wavs[1]):
            raise KeyboardInterrupt
        yield Chunk(0.0, 2.0, 0.0, 0.0, Outputs(np.zeros(527, np.float32), np.zeros(48, np.float32)))

    (tmp_path / "a.npz").write_text("mine")
    monkeypatch.setattr("satexport.tagging.sounds.score_blocks", first_only)
    assert call("run", tiny_embedding, *wavs, "--embeddings", tmp_path / "a.npz").code == 130
    assert (tmp_path / "a.npz").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(
        tiny_embedding: Path, wavs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    result = call("run", tiny_embedding, wavs[0], "--embeddings", tmp_path / "closed" / "a.npz")
    assert (result.code, result.out) == (5, "")


def test_an_existing_file_is_replaced(tiny_embedding: Path, wavs: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    file.write_text("old")
    assert call("run", tiny_embedding, wavs[1], "--embeddings", file).code == 0
    with np.load(file) as found:
        assert found["embedding"].shape == (1, 48)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "five.wav", "two.wav"]
