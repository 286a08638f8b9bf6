"""`satexport parity` as a user sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from satexport import __version__
from satexport.audio.labels import audioset_labels
from satexport.audio.scenes import SCENE_CLASSES, scene
from satexport.audio.synthetic import synthetic_clip
from satexport.bundle.contract import RANDOM_WEIGHTS
from satexport.bundle.folder import GOLDEN, INITIAL_CACHE, labels_sha256
from satexport.bundle.thresholds import OperatingPoint, Thresholds, write_thresholds
from satexport.report.figures import definitions
from tests.bundle.copies import copy_of, manifest_of, reseal
from tests.commands.calls import START, call, no_file_longer_than
from tests.machine import need
from tests.tiny import vit_file

soundfile = need("soundfile", "audio")
RATE = 16_000  # Hz


@pytest.fixture
def bundle(demo: Path, tmp_path: Path) -> Path:
    """A copy of the demo's bundle, to write reports into."""
    return copy_of(demo, tmp_path)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A labelled set of three clips of one chunk."""
    rows = ["filename,labels"]
    for index in range(3):
        clip, names = synthetic_clip("evaluate", index, rate=16_000)
        soundfile.write(tmp_path / f"{index}.wav", clip[:2 * RATE], RATE)
        rows.append(f'{index}.wav,"{";".join(names)}"')
    (tmp_path / "clips.csv").write_text("\n".join(rows))
    return tmp_path / "clips.csv"


@pytest.fixture
def spoiled(bundle: Path) -> Path:
    """A bundle with valid hashes but a wrong initial cache: zeros, as a user might assume."""
    np.save(bundle / INITIAL_CACHE, np.zeros_like(np.load(bundle / INITIAL_CACHE)))
    reseal(bundle)
    return bundle


def test_parity_passes_on_the_demo_and_its_report_has_definitions(bundle: Path, labelled: Path) -> None:
    result = call("parity", bundle, "--minutes", 0.1, "--data", labelled, "--junit", bundle.parent / "p.xml")
    assert (result.code, result.err) == (0, "")
    assert "Parity: passed." in result.out
    report = json.loads((bundle / "reports" / "parity.json").read_bytes())
    assert report["verdict"] == "passed"
    assert [gate["status"] for gate in report["gates"]] == ["passed"] * 3
    assert report["labelled_set"]["clips"] == 3
    assert report["definitions"] == definitions("parity")
    assert report["origin"]["versions"]["satexport"] == __version__
    assert {"torch", "onnxruntime", "numpy", "python"} <= set(report["origin"]["versions"])
    assert report["origin"]["cpu"]
    assert report["checkpoint"]["sha256"] == manifest_of(bundle)["contract"]["checkpoint"]["sha256"]
    suite = ElementTree.parse(bundle.parent / "p.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "0", "0")


def test_events_are_compared_with_a_list_of_strong_labels(bundle: Path, tmp_path: Path) -> None:
    lines = ["filename\tonset\toffset\tevent_label"]
    for index in range(2):
        sound, events = scene("evaluate", index, 12, rate=RATE)
        soundfile.write(tmp_path / f"{index}.wav", sound, RATE)
        lines += [f"{index}.wav\t{event.onset}\t{event.offset}\t{event.label}" for event in events]
    lines.append(f"0.wav\t13\t14\t{SCENE_CLASSES[0]}")
    (tmp_path / "strong.tsv").write_text("\n".join(lines))
    point = OperatingPoint(on=1.0)
    deaf = Thresholds(labels_sha256=labels_sha256(audioset_labels()),
                      threshold=dict.fromkeys(SCENE_CLASSES, point))
    write_thresholds(tmp_path / "deaf.toml", deaf)
    figures = []
    for options in ((), ("--thresholds", tmp_path / "deaf.toml")):
        result = call("parity", bundle, "--minutes", 0.1, "--data", tmp_path / "strong.tsv", *options)
        assert result.code == 0
        assert f"{len(lines) - 1} events, thresholds: " in result.out
        assert "behind the end of their recording, so that nothing can find them: 1 (0.wav)." in result.out
        report = json.loads((bundle / "reports" / "parity.json").read_bytes())
        figures.append(report["labelled_set"]["events"])
    heard, unheard = figures
    assert heard["bundle"] == heard["pytorch"]
    assert heard["bundle"]["segment_f1"] > 0.5
    assert (unheard["thresholds"], unheard["bundle"]["segment_f1"]) == ("from a file", 0)
    write_thresholds(tmp_path / "deaf.toml", replace(deaf, labels_sha256="0" * 64))
    result = call("parity", bundle, "--data", tmp_path / "strong.tsv", "--thresholds", tmp_path / "deaf.toml")
    assert (result.code, "is for other labels than the model's 527" in result.err) == (4, True)
    found = tmp_path / "found.toml"
    assert call("thresholds", bundle, "--data", tmp_path / "strong.tsv", "-o", found).code == 0
    result = call("parity", bundle, "--data", tmp_path / "strong.tsv", "--thresholds", found)
    assert (result.code, "strong.tsv that now gate" in result.err) == (4, True)
    (tmp_path / "strong.tsv").rename(tmp_path / "same.tsv")  # the same recordings by another list
    result = call("parity", bundle, "--data", tmp_path / "same.tsv", "--thresholds", found)
    assert (result.code, "were found on 0.wav of " in result.err) == (4, True)
    assert "under this or another name" in result.err
    result = call("parity", bundle, "--thresholds", tmp_path / "deaf.toml")
    assert (result.code, "synthetic has no strong labels" in result.err) == (2, True)


def test_golden_parity_prints_one_json_document_which_is_its_report(bundle: Path) -> None:
    result = call("parity", bundle, "--golden", "--json")
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out) == json.loads((bundle / "reports" / "parity-golden.json").read_bytes())


def test_golden_parity_fails_if_the_initial_cache_is_wrong(spoiled: Path) -> None:
    result = call("parity", spoiled, "--golden", "--junit", spoiled.parent / "p.xml")
    assert result.code == 1
    assert "largest score difference, golden chunks failed" in result.err
    assert "Parity: failed." in result.out
    assert json.loads((spoiled / "reports" / "parity-golden.json").read_bytes())["verdict"] == "failed"
    failures = ElementTree.parse(spoiled.parent / "p.xml").findall("testcase/failure")
    assert len(failures) == 1


def test_parity_with_pytorch_fails_if_the_initial_cache_is_wrong(spoiled: Path, labelled: Path) -> None:
    result = call("parity", spoiled, "--minutes", 0.1, "--data", labelled)
    assert result.code == 1
    assert "largest score difference, 0.1 min of stream failed" in result.err


def test_closing_the_output_early_does_not_hide_a_failure(spoiled: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", START, "parity", spoiled, "--golden"],
                          stdout=writing, stderr=subprocess.PIPE, encoding="utf-8", check=False)
    os.close(writing)
    assert (done.returncode, "failed" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_a_gate_without_data_is_skipped_or_fails_if_data_are_required(
        random_vit: Path, tmp_path: Path) -> None:
    bundle = copy_of(random_vit, tmp_path)
    result = call("parity", bundle, "--minutes", 0.1)
    assert result.code == 0
    assert RANDOM_WEIGHTS in result.err
    assert "Parity: skipped." in result.out
    assert json.loads((bundle / "reports" / "parity.json").read_bytes()).get("labelled_set") is None
    result = call("parity", bundle, "--minutes", 0.1, "--require-data")
    assert (result.code, "mAP kept failed: random weights" in result.err) == (1, True)
    assert "Parity: failed." in result.out
    gates = json.loads((bundle / "reports" / "parity.json").read_bytes())["gates"]
    assert [gate["status"] for gate in gates] == ["passed", "failed"]


@pytest.mark.parametrize("option", [("--data", "x"), ("--folds", "4"), ("--map", "x"), ("--checkpoint", "x"),
                                    ("--thresholds", "x")])
def test_golden_refuses_options_that_it_would_ignore(random_vit: Path, option: tuple[str, str]) -> None:
    result = call("parity", random_vit, "--golden", *option)
    assert (result.code, "--golden takes neither" in result.err) == (2, True)


def test_weights_of_another_file_exit_with_4(random_vit: Path, tmp_path: Path) -> None:
    bundle = copy_of(random_vit, tmp_path)
    result = call("parity", bundle, "--checkpoint", vit_file(tmp_path, 1))
    assert result.code == 4
    assert "seed-1.safetensors has the SHA-256" in result.err
    assert not (bundle / "reports" / "parity.json").exists()


def test_unknown_weights_exit_with_4_and_advice(bundle: Path) -> None:
    import onnx

    graph = onnx.load(bundle / "model.onnx")
    origin = {"name": "mine.pt", "source": "file", "sha256": "0" * 64}
    for entry in graph.metadata_props:
        if entry.key == "satexport.checkpoint":
            entry.value = json.dumps(origin)
    onnx.save(graph, bundle / "model.onnx")
    reseal(bundle, checkpoint=origin)
    result = call("parity", bundle, "--minutes", 0.1)
    assert result.code == 4
    assert "was made from mine.pt" in result.err
    assert "pass --checkpoint FILE, or use --golden" in result.err
    assert call("parity", bundle, "--golden").code == 0


def test_a_report_that_cannot_be_written_exits_with_5_after_the_table(bundle: Path) -> None:
    with no_file_longer_than(100):
        result = call("parity", bundle, "--golden")
    assert result.code == 5
    assert "golden chunks" in result.out
    assert "parity-golden.json: cannot be written" in result.err
    elsewhere = bundle.parent / "report.json"
    assert call("parity", bundle, "--golden", "--report", elsewhere).code == 0
    assert json.loads(elsewhere.read_bytes())["verdict"] == "passed"


def test_golden_chunks_of_another_run_fail(bundle: Path) -> None:
    with np.load(bundle / GOLDEN) as file:
        arrays = dict(file)
    arrays["scores"] = arrays["scores"][::-1]
    np.savez(bundle / GOLDEN, **arrays)
    reseal(bundle)
    assert call("parity", bundle, "--golden").code == 1
