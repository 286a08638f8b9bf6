"""A small part of `make fuzz`, and tests that it detects every kind of fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.__main__ import Fuzz, fuzz
from tests.fuzz.bad import WAYS
from tests.fuzz.kinds import Doubtful
from tests.fuzz.watch import Sandbox, Worker, faults_of_command, half_bundles
from tests.machine import PATIENCE, need

need("soundfile", "audio")
SLICE = 120  # inputs; `make fuzz` runs more


def test_a_sample_of_fuzzed_files_causes_no_fault(demo: Path, tmp_path: Path) -> None:
    campaign = Fuzz(0, tmp_path, demo, None, seconds=PATIENCE)
    fuzz(campaign, iter(range(SLICE)), by_command=0, lanes=1)
    assert campaign.faults == []
    assert sum(campaign.ends.values()) == SLICE
    assert {end for _, end in campaign.ends} == {"accepted", "refused"}


def test_an_input_is_determined_by_its_seed_and_number(demo: Path, tmp_path: Path) -> None:
    campaign = Fuzz(3, tmp_path, demo, None)
    drawn: list[tuple[str, bool, list[bytes]]] = []
    for number in (5, 6, 5):
        place = tmp_path / f"{len(drawn)}"
        place.mkdir()
        kind, doubtful = campaign.draw(number, place)
        files = [path for path in (doubtful.path, *doubtful.path.glob("*")) if path.is_file()]
        drawn.append((kind, doubtful.must_be_refused, [path.read_bytes() for path in files]))
    assert drawn[0] == drawn[2] != drawn[1]


@pytest.mark.parametrize("way", WAYS)
def test_every_kind_of_fault_is_detected(way: str, fake_network: Path, tmp_path: Path) -> None:
    seconds = 2 if way == "a process that waits" else 60
    worker = Worker(Sandbox(tmp_path, fake_network), tmp_path, "tests.fuzz.bad", seconds)
    ending = worker.use(way, Doubtful(tmp_path))
    worker.stop()
    assert len(ending.faults) == 1
    assert WAYS[way][1] in ending.faults[0]


def test_every_kind_of_fault_of_a_command_is_detected(tmp_path: Path) -> None:
    fine = Doubtful(tmp_path)
    assert faults_of_command("Error: x: expected y.", 4, fine) == []
    assert faults_of_command("", 0, fine) == []
    assert faults_of_command("", 0, Doubtful(tmp_path, must_be_refused=True))
    for text, code in (("", 4), ("Error: a\nError: b", 4), ("Error: a", 5), ("Error: a", -11), ("", 1),
                       ("Traceback\nError: a", 4), ("Error: \x1b[31m", 4),
                       ("Error: it looks like a fault", 4)):
        assert faults_of_command(text, code, fine), (text, code)


def test_a_partial_bundle_is_detected(demo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sat-t-2s" / "onnx"
    folder.mkdir(parents=True)
    (folder / "bundle.json").write_text("{}")
    (tmp_path / "sat-t-2s" / ".onnx.partial-1").mkdir()
    assert len(half_bundles(tmp_path)) == 2
    assert half_bundles(demo.parents[1]) == []
