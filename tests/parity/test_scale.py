"""Large sets: the same figures from any number of workers; a run that was interrupted goes on; clips that
cannot be read are listed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from satexport.audio.datasets import load_set
from satexport.cluster import ClusterOptions
from satexport.errors import DataError
from satexport.parity import protocols
from satexport.parity.groups import Group
from satexport.parity.kept import Kept
from satexport.parity.protocols import compare_on_set
from satexport.parity.pytorch import PyTorch, load_pytorch
from satexport.parity.records import SetParity
from satexport.parity.scores import score_parity
from satexport.parity.scoring import HERE, SetOptions, Task
from satexport.tagging.tagger import Tagger, load
from tests.bundle.copies import copy_of
from tests.commands.calls import call
from tests.lean import python
from tests.machine import need, need_posix

soundfile = need("soundfile", "audio")


@pytest.fixture(scope="module")
def small(tiny: Path) -> Tagger:
    return load(tiny)


@pytest.fixture(scope="module")
def pytorch(small: Tagger) -> PyTorch:
    return load_pytorch(small.bundle)


@pytest.fixture
def clips(few_clips: Path, tmp_path: Path) -> Path:
    """A list of 12 clips, in two groups: eight and four."""
    folder = tmp_path / "clips"
    folder.mkdir()
    lines = few_clips.read_text("utf-8").splitlines()[:13]
    for line in lines[1:]:
        name = line.partition(",")[0]
        (folder / name).write_bytes((few_clips.parent / name).read_bytes())
    (folder / "clips.csv").write_text("\n".join(lines), "utf-8")
    return folder / "clips.csv"


Compare = Callable[..., SetParity]


@pytest.fixture
def compare(small: Tagger, pytorch: PyTorch, clips: Path) -> Compare:
    def compare(options: SetOptions = HERE) -> SetParity:
        return compare_on_set(pytorch, small, load_set(clips, small.labels), options=options)

    return compare


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the groups that are scored."""
    numbers: list[int] = []

    def score_and_note(task: Task) -> Group:
        numbers.append(task.number)
        return score_parity(task)

    score_and_note.__name__ = score_parity.__name__
    monkeypatch.setattr(protocols, "score_parity", score_and_note)
    return numbers


def without_how(found: SetParity) -> SetParity:
    """The comparison without how the clips were scored."""
    return replace(found, origin={key: value for key, value in found.origin.items() if key != "scored_with"})


@pytest.mark.long
def test_two_workers_give_the_figures_of_this_process_bit_for_bit(compare: Compare) -> None:
    need("distributed", "batch")
    here, there = compare(SetOptions(threads=1)), compare(SetOptions(cluster=ClusterOptions(workers=2)))
    assert without_how(there) == without_how(here)
    assert there.origin["scored_with"]["workers"] == 2
    assert there.origin["scored_with"]["threads"] == {"bundle": 1, "pytorch": 1}
    assert here.origin["scored_with"]["workers"] is None


def test_an_interrupted_run_goes_on_with_the_groups_that_are_missing(
        compare: Compare, scored: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, kept = compare(), Kept(tmp_path / "parity.json")

    def interrupt(task: Task) -> Group:
        if task.number == 1:
            raise KeyboardInterrupt
        return score_parity(task)

    interrupt.__name__ = score_parity.__name__
    with monkeypatch.context() as patch:
        patch.setattr(protocols, "score_parity", interrupt)
        with pytest.raises(KeyboardInterrupt):
            compare(SetOptions(kept=kept))
    scored.clear()
    assert compare(SetOptions(kept=Kept(tmp_path / "parity.json"))) == expected
    assert scored == [1]
    assert compare(SetOptions(kept=kept)) == expected
    assert scored == [1]
    kept.remove()
    assert not list(tmp_path.glob("parity.json*"))


def test_what_is_kept_is_not_used_for_another_file_or_if_it_is_damaged(
        compare: Compare, scored: list[int], clips: Path, tmp_path: Path) -> None:
    options = SetOptions(kept=Kept(tmp_path / "parity.json"))
    compare(options)
    os.utime(clips.parent / "9.wav", (1, 1))
    compare(options)
    assert scored == [0, 1, 1]
    (file,) = tmp_path.glob("parity.json.partial-*/000000-*.npz")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    compare(options)
    assert scored == [0, 1, 1, 0]


def test_the_results_of_another_run_are_left_alone_and_named(
        compare: Compare, scored: list[int], clips: Path, tmp_path: Path,
        capsys: pytest.CaptureFixture[str]) -> None:
    compare(SetOptions(kept=Kept(tmp_path / "parity.json")))
    (other,) = tmp_path.glob("parity.json.partial-*")
    clips.write_text(clips.read_text("utf-8").rpartition("\n")[0], "utf-8")
    compare(SetOptions(kept=Kept(tmp_path / "parity.json")))
    assert scored == [0, 1, 0, 1]
    assert f"{other} has results of a run that was not finished" in capsys.readouterr().err
    assert len(list(tmp_path.glob("parity.json.partial-*"))) == 2


def test_clips_that_cannot_be_read_are_counted_after_all_others_were_scored(
        compare: Compare, scored: list[int], clips: Path, tmp_path: Path) -> None:
    (clips.parent / "0.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 12 clips .* cannot be read; expected sound files\. Repair"):
        compare()
    assert scored == [0, 1]


def test_the_command_lists_such_clips_and_judges_the_others_if_that_is_asked_for(
        demo: Path, clips: Path, tmp_path: Path) -> None:
    bundle = copy_of(demo, tmp_path)
    (clips.parent / "0.wav").write_bytes(b"no sound")
    words = ("parity", bundle, "--minutes", 0.1, "--data", clips)
    result = call(*words)
    assert (result.code, result.out) == (4, "")
    assert "1 of 12 clips of" in result.err
    assert "add --skip-unreadable to leave them out. The others are not scored again" in result.err
    assert f"\n  0.wav: {clips.parent / '0.wav'}" in result.err
    (clips.parent / "9.wav").unlink()
    result = call(*words)
    assert (result.code, "1 of 12 audio files are missing" in result.err) == (4, True)
    result = call(*words, "--skip-unreadable")
    assert (result.code, result.err) == (0, "")
    assert "Clips that cannot be read and are left out: 2 (0.wav: " in result.out
    found = json.loads((bundle / "reports" / "parity.json").read_bytes())["labelled_set"]
    assert (found["clips"], found["origin"]["unreadable"]) == (10, 2)
    assert [line.partition(":")[0] for line in found["origin"]["unreadable_clips"]] == ["0.wav", "9.wav"]
    assert not list((bundle / "reports").glob("*.partial-*"))
    result = call("parity", bundle, "--golden", "--skip-unreadable")
    assert (result.code, "--golden takes neither" in result.err) == (2, True)


LARGE = """
import resource, time
import numpy as np
import sklearn.metrics
from satexport.parity.metrics import bootstrap, set_metrics
random, size, labels = np.random.default_rng(0), (18_000, 527), [str(number) for number in range(527)]
truth = random.random(size) < 2 / 527
scores = (0.3 * random.random(size, np.float32) + 0.4 * truth * random.random(size, np.float32))
scores = scores.astype(np.float32)
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
set_metrics(truth, scores, labels), set_metrics(truth, scores, labels), bootstrap(truth, scores, labels)
print(time.process_time() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6)
"""


@pytest.mark.long
def test_the_figures_of_a_set_as_large_as_audiosets_fit_into_a_gigabyte() -> None:
    """They are computed at the end, for all clips at once."""
    need_posix("resource")
    seconds, gigabytes = map(float, python(LARGE).split())
    print(f"{seconds:.0f} s of CPU time, {gigabytes:.2f} GB")
    assert gigabytes < 1
