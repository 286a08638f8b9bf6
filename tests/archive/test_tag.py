"""Tagging an archive: the result does not depend on how the work was divided, nor on what went wrong."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from satexport import cluster
from satexport.archive import run as run_module
from satexport.archive import store
from satexport.archive.plan import Recording, find_recordings, plan_parts
from satexport.audio.files import audio_blocks
from satexport.audio.labels import audioset_mids
from satexport.bundle.folder import open_bundle
from satexport.errors import DataError, RunError, UsageError
from satexport.files import only_command, write_bytes
from satexport.tagging.sounds import score_blocks
from satexport.tagging.tagger import load
from tests.archive.archives import SOON, make_archive, rows, run
from tests.commands.calls import call
from tests.machine import need, need_posix

CONTENTS = "tags", "scores", "events"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, real: Path) -> Path:
    return make_archive(tmp_path_factory.mktemp("archive"), real)


@pytest.fixture(scope="module")
def whole(tiny: Path, archive: Path, tmp_path_factory: pytest.TempPathFactory
          ) -> dict[str, dict[str, list[Any]]]:
    """The rows of each content, of recordings that were not cut."""
    found = {}
    for content in CONTENTS:
        output = tmp_path_factory.mktemp(content)
        run(tiny, archive, output, content=content, events=SOON, piece_seconds=3600)
        found[content] = rows(output)
    return found


@pytest.mark.parametrize(("content", "seconds"), [
    ("events", 6), ("tags", 20), *(pytest.param(*case, marks=pytest.mark.long) for case in (
        ("scores", 6), ("events", 20)))])
def test_rows_do_not_depend_on_how_recordings_are_cut(
        tiny: Path, archive: Path, whole: dict[str, dict[str, list[Any]]], tmp_path: Path, content: str,
        seconds: float) -> None:
    report = run(tiny, archive, tmp_path, content=content, events=SOON, piece_seconds=seconds)
    assert report.parts > 2 * 60 / seconds
    assert rows(tmp_path) == whole[content]
    assert len(whole[content]["input"]) > 10
    assert not list(tmp_path.glob("_piece*"))


def test_rows_of_a_batch_do_not_depend_on_the_order_of_work(
        tiny_lanes: Path, archive: Path, whole: dict[str, dict[str, list[Any]]], tmp_path: Path) -> None:
    for name, seconds in (("whole", 3600), ("cut", 20)):
        run(tiny_lanes, archive, tmp_path / name, content="scores", batch=3, piece_seconds=seconds)
    found = rows(tmp_path / "whole")
    assert rows(tmp_path / "cut") == found
    assert found["input"] == whole["scores"]["input"]
    np.testing.assert_allclose(found["scores"], whole["scores"]["scores"], atol=1e-3)  # float16


def test_rows_are_what_run_finds(
        tiny: Path, archive: Path, whole: dict[str, dict[str, list[Any]]]) -> None:
    path = archive / "deep" / "a minute.wav"
    with load(tiny) as tagger:
        chunks = list(score_blocks(tagger, audio_blocks(path, 16_000, tell=print), path.name))
    found = whole["scores"]
    of_file = [row for row, name in enumerate(found["input"]) if name == str(path)]
    assert len(of_file) == len(chunks) == 31
    for row, chunk in zip(of_file, chunks, strict=True):
        assert (found["start_time"][row], found["end_time"][row]) == pytest.approx((chunk.start, chunk.end))
        np.testing.assert_array_equal(
            np.array(found["scores"][row], np.float16), chunk.outputs.scores.astype(np.float16))


def test_rows_say_where_they_come_from(tiny: Path, archive: Path, tmp_path: Path) -> None:
    parquet = need("pyarrow.parquet", "batch")
    report = run(tiny, archive / "short.flac", tmp_path, content="events", events=SOON)
    metadata = parquet.read_schema(tmp_path / "part-0000000.parquet").metadata
    assert metadata[b"satexport.bundle_sha256"].decode() == open_bundle(tiny).sha256
    assert metadata[b"satexport.threshold"] == b"0.45"
    assert json.loads((tmp_path / "_run.json").read_text("utf-8"))["settings"]["content"] == "events"
    found, mid_of = rows(tmp_path), {label: mid for mid, label in audioset_mids().items()}
    assert report.rows == len(found["input"]) > 0
    assert set(found["input"]) == {str(archive / "short.flac")}
    assert found["mid"] == [mid_of[label] for label in found["label"]]


def test_a_run_that_was_stopped_goes_on(
        tiny: Path, archive: Path, whole: dict[str, dict[str, list[Any]]], tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    for content in CONTENTS:
        output, written = tmp_path / content, 0

        def write_some(path: Path, data: bytes) -> None:
            nonlocal written
            written += 1
            if written > 5:
                raise KeyboardInterrupt
            write_bytes(path, data)

        with monkeypatch.context() as patched:
            patched.setattr(store, "write_bytes", write_some)
            with pytest.raises(KeyboardInterrupt):
                run(tiny, archive, output, content=content, events=SOON, piece_seconds=20)
        assert len(list(output.glob("*part-*")) + list(output.glob("_piece-*"))) == 5
        report = run(tiny, archive, output, content=content, events=SOON, piece_seconds=20)
        assert 0 < report.parts_now < report.parts
        assert rows(output) == whole[content]
        assert run(tiny, archive, output, content=content, events=SOON, piece_seconds=20).parts_now == 0


def test_a_recording_that_is_damaged_or_gone_loses_nothing_else(
        tiny: Path, archive: Path, whole: dict[str, dict[str, list[Any]]], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(archive, copy)
    (copy / "empty.wav").write_bytes(b"")
    (copy / "text.mp3").write_text("no audio", encoding="utf-8")
    (copy / "list.txt").write_text("gone.wav\nshort.flac\n", encoding="utf-8")
    output = tmp_path / "out"
    command = "tag", tiny, copy, copy / "list.txt", "-o", output, "--content", "scores", "--workers", 1
    result = call(*command)
    assert result.code == 4
    assert "3 of " in result.err
    assert "could not be read completely" in result.err
    assert result.err.count("gone.wav") == 1
    problems = (output / "_problems.csv").read_text(encoding="utf-8")
    assert all(f"{copy / name},lost," in problems for name in ("empty.wav", "text.mp3", "gone.wav"))
    found = rows(output)
    assert [Path(name).name for name in found["input"]] == [
        Path(name).name for name in whole["scores"]["input"]]
    assert found["scores"] == whole["scores"]["scores"]

    shutil.copy(copy / "short.flac", copy / "gone.wav")
    again = call(*command)
    assert again.code == 4
    assert "2 of " in again.err
    assert str(copy / "gone.wav") in rows(output)["input"]


def test_what_was_read_before_the_damage_is_kept(tiny: Path, archive: Path, tmp_path: Path) -> None:
    soundfile = need("soundfile", "audio")
    sound, rate = soundfile.read(archive / "deep" / "a minute.wav", dtype="float32")
    sound[45 * rate] = np.nan
    soundfile.write(tmp_path / "nan.wav", sound, rate, "FLOAT")
    for seconds in (3600, 20):
        output = tmp_path / f"out-{seconds}"
        report = run(tiny, tmp_path / "nan.wav", output, content="events", events=SOON, piece_seconds=seconds)
        assert report.lost == 1
        assert "NaN" in report.problems[-1].reason
    assert rows(tmp_path / "out-20") == rows(tmp_path / "out-3600")
    assert 20 < max(rows(tmp_path / "out-20")["end_time"]) <= 44


def test_a_folder_of_another_run_is_not_mixed(tiny: Path, archive: Path, tmp_path: Path) -> None:
    run(tiny, archive / "short.flac", tmp_path / "out", content="tags")
    for options, said in (({"content": "scores"}, "content was tags and is scores"),
                          ({"events": SOON}, "threshold was 0.5 and is 0.45"),
                          ({"piece_seconds": 60}, "split_seconds was not given and is 60")):
        with pytest.raises(UsageError, match=said):
            run(tiny, archive / "short.flac", tmp_path / "out", **options)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("important", encoding="utf-8")
    with pytest.raises(UsageError, match="not of a run"):
        run(tiny, archive / "short.flac", tmp_path / "other")


def test_another_cpu_does_not_go_on_with_a_run(
        tiny: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tiny, archive / "short.flac", tmp_path)
    (tmp_path / "part-0000000.parquet").unlink()
    monkeypatch.setattr(run_module, "check_worker", lambda job: "0" * 64)
    with pytest.raises(RunError, match="another kind of CPU"):
        run(tiny, archive / "short.flac", tmp_path)


def test_a_second_command_does_not_write_into_the_folder(tiny: Path, archive: Path, tmp_path: Path) -> None:
    need_posix("fcntl")
    with only_command(tmp_path / "out"):
        (tmp_path / "out" / "_run.json").write_text("{}", encoding="utf-8")
        with pytest.raises(UsageError, match="another command writes there"):
            run(tiny, archive / "short.flac", tmp_path / "out")


def test_a_name_that_is_not_utf8_is_escaped(tiny: Path, archive: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/m\xfcll.flac"
    try:
        shutil.copy(archive / "short.flac", os.fsdecode(name))
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    for _ in range(2):  # the second run reads the name from _run.json
        report = run(tiny, Path(os.fsdecode(name)), tmp_path / "out", content="scores")
        assert report.lost == 0
    assert rows(tmp_path / "out")["input"][0].endswith("m\\xfcll.flac")


def test_a_pipe_in_the_archive_is_a_problem_and_does_not_hang(
        tiny: Path, archive: Path, tmp_path: Path) -> None:
    need_posix("fcntl")
    os.mkfifo(tmp_path / "pipe.wav")
    report = run(tiny, [tmp_path / "pipe.wav", archive / "short.flac"], tmp_path / "out", content="scores")
    assert [problem.name for problem in report.problems] == [str(tmp_path / "pipe.wav")]
    assert len(rows(tmp_path / "out")["input"]) == 3


def test_rows_that_were_read_once_are_not_lost_when_the_disk_is_gone(
        tiny: Path, archive: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(archive / "short.flac", copy)
    (copy / "broken.wav").write_bytes(b"no audio")
    paths = [copy / "short.flac", copy / "broken.wav"]
    run(tiny, paths, tmp_path / "out", content="scores")
    before = rows(tmp_path / "out")
    (copy / "short.flac").rename(copy / "away.flac")
    with pytest.raises(DataError, match="does not exist"):
        run(tiny, paths, tmp_path / "out", content="scores")
    report = run(tiny, copy / "broken.wav", tmp_path / "out", content="scores")
    assert report.lost == 1
    assert rows(tmp_path / "out") == before


@pytest.mark.parametrize(("arguments", "code", "said"), [
    (["--batch", "4"], 2, "--streams dynamic"),
    (["--content", "embeddings"], 2, "--embedding"),
    (["--content", "scores", "--threshold", "0.4"], 2, "--threshold does not apply"),
    (["--least", "2"], 2, "--least does not apply"),
    (["--workers", "2", "--scheduler", "tcp://127.0.0.1:1"], 2, "Leave one of them out"),
    (["--tls-ca", "ca.pem"], 2, "belong together"),
    (["--scheduler", "tls://127.0.0.1:1"], 2, "needs --tls-ca"),
    (["--scheduler", "tcp://127.0.0.1:1"], 5, "no Dask scheduler answers at tcp://127.0.0.1:1"),
    (["nowhere/*.wav"], 4, "no recording is there"),
    (["nowhere"], 4, "does not exist"),
])
def test_wrong_use_is_said_before_the_work(
        tiny: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str],
        code: int, said: str) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    result = call("tag", tiny, archive / "short.flac", "-o", tmp_path / "out", *arguments)
    assert (result.code, said in result.err) == (code, True), result.err
    assert not (tmp_path / "out").exists()


def test_embeddings_are_those_of_the_stream(tiny_embedding: Path, archive: Path, tmp_path: Path) -> None:
    run(tiny_embedding, archive / "short.flac", tmp_path, content="embeddings")
    with load(tiny_embedding) as tagger:
        blocks = audio_blocks(archive / "short.flac", 16_000)
        expected = [chunk.outputs.embedding for chunk in score_blocks(tagger, blocks, "short")]
    np.testing.assert_array_equal(rows(tmp_path)["embedding"], expected)


def test_recordings_are_found_once_and_hidden_ones_are_left_out(archive: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(archive, copy)
    (copy / "._short.flac").write_bytes(b"resource fork")
    (copy / "list.txt").write_text("# comment\n\ndeep/a minute.wav\n", encoding="utf-8")
    found = find_recordings([str(copy), str(copy / "list.txt"), f"{copy}/**/*.ogg"])
    names = [recording.name for recording in found]
    assert names == sorted(set(names))
    assert len(names) == 7
    assert {Path(recording.name).suffix for recording in found if not recording.is_seekable} == {".mp3"}


def test_the_plan_has_work_for_many_workers_and_no_tiny_pieces() -> None:
    def planned(count: int, seconds: float) -> list[int]:
        recordings = [Recording(name=f"{i}", path=f"/{i}", size=1, seconds=seconds, is_seekable=True)
                      for i in range(count)]
        return [len(part.pieces) for part in plan_parts(recordings, 2.0, None)]

    assert planned(1, 36_000) == [1] * 60            # ten hours in one file: pieces of 10 minutes
    assert planned(7200, 5)[0] == 29                 # in clips of 5 s: parts of 2 minutes
    assert len(planned(24 * 365, 3600)) == 24 * 365  # a year: pieces of an hour
