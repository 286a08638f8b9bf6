"""Tagging with workers of Dask: on this machine, and on those of a scheduler that runs already."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from satexport import cluster as cluster_module
from satexport.archive import store
from satexport.cluster import ClusterOptions
from satexport.files import write_bytes
from tests.archive.archives import make_archive, rows, run
from tests.commands.calls import call
from tests.machine import need

CRASH = """
import soundfile, os
class Crash(soundfile.SoundFile):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.format == "FLAC": os._exit(139)
soundfile.SoundFile = Crash
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_archive(tmp_path_factory.mktemp("archive"))


def test_two_workers_of_which_one_is_killed_find_the_same(
        tiny: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    psutil = need("psutil", "batch")
    killed: list[int] = []

    def write_and_kill(path: Path, content: bytes) -> None:
        write_bytes(path, content)
        if not killed:
            workers = [child for child in psutil.Process().children(recursive=True)
                       if "spawn_main" in " ".join(child.cmdline())]
            assert len(workers) == 2
            killed.append(workers[0].pid)
            workers[0].kill()

    run(tiny, archive, tmp_path / "here", content="scores", piece_seconds=20)
    monkeypatch.setattr(store, "write_bytes", write_and_kill)
    report = run(tiny, archive, tmp_path / "killed", content="scores", piece_seconds=20,
                 cluster=ClusterOptions(workers=2))
    assert (report.workers, report.lost, len(killed)) == (2, 0, 1)
    assert rows(tmp_path / "killed") == rows(tmp_path / "here")
    assert not psutil.pid_exists(killed[0])


@pytest.mark.long
def test_only_the_recording_that_ends_its_worker_is_lost(
        tiny: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The crash is that of a decoder: a module on the path of the workers ends the process."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(CRASH, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "path"), *sys.path]))
    report = run(tiny, [archive / "short.flac", archive / "whole.mp3"], tmp_path / "out", content="scores",
                 cluster=ClusterOptions(workers=1))
    assert [problem.name for problem in report.problems] == [str(archive / "short.flac")]
    assert "ended its worker" in report.problems[0].reason
    assert set(rows(tmp_path / "out")["input"]) == {str(archive / "whole.mp3")}


def test_a_scheduler_that_runs_already_is_used_by_the_same_satexport_only(
        tiny: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = need("distributed", "batch")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, host="127.0.0.1",
                                  dashboard_address="127.0.0.1:0", local_directory=tmp_path) as running:
        address = running.scheduler_address
        result = call("tag", tiny, archive / "short.flac", "-o", tmp_path / "out", "--scheduler", address)
        assert result.code == 0
        assert "1 worker" in result.out
        run(tiny, archive / "short.flac", tmp_path / "here")
        assert rows(tmp_path / "out") == rows(tmp_path / "here")

        monkeypatch.setattr(cluster_module, "sources_sha256", lambda: "0" * 64)
        result = call("tag", tiny, archive / "short.flac", "-o", tmp_path / "other", "--scheduler", address)
        assert result.code == 3
        assert "has another satexport" in result.err
        assert not os.path.exists(tmp_path / "other")
