"""`satexport paper`: what it measures beside the published figures, and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from satexport.audio.labels import audioset_labels
from satexport.audio.scenes import scene_events
from satexport.bundle.folder import open_bundle
from satexport.errors import UsageError
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant
from satexport.paper.scores import split_labels
from satexport.tagging.tagger import load
from tests.commands.calls import call
from tests.machine import need


@pytest.fixture(scope="module")
def bundles(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of exports of an earlier command, which has that of the demo."""
    folder = tmp_path_factory.mktemp("paper")
    shutil.copytree(demo, place_of(folder, demo))
    return folder


def place_of(folder: Path, demo: Path) -> Path:
    """The place of the demo's export among those of the rows."""
    return folder / open_bundle(demo).contract.checkpoint.sha256[:12] / demo.parent.name / demo.name


DEMO = ("--only", "sat-t-2s", "--checkpoint", "sat-t-2s=demo", "--no-measure")


def row_of(out: str) -> dict[str, Any]:
    (row,) = json.loads(out)["rows"]
    return dict(row)


@pytest.fixture(scope="module")
def scored(bundles: Path, audioset_style: Path) -> dict[str, Any]:
    """The row of the demo over a list in the style of AudioSet."""
    result = call("paper", "table2", *DEMO, "--bundles", bundles, "--data", audioset_style, "--json")
    assert result.code == 0, result.err
    return row_of(result.out)


@pytest.fixture(scope="module")
def audioset_style(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight real clips by AudioSet's own csv and a folder of clips, two of them missing."""
    mids = {row[2]: row[1] for row in csv.reader(
        (Path(audioset_file())).read_text("utf-8").splitlines()[1:])}
    folder = tmp_path_factory.mktemp("audioset")
    (folder / "audio").mkdir()
    lines = ["# Segments csv created Sun Mar  5 10:54:31 2017", "# num_ytids=8, num_segs=8",
             "# YTID, start_seconds, end_seconds, positive_labels"]
    rows = list(csv.DictReader((real / "meta" / "esc50.csv").read_text("utf-8").splitlines()))
    names = {"dog": "Dog", "rain": "Rain"}
    chosen = [row for row in rows if row["category"] in names and row["fold"] == "4"][:8]
    for number, row in enumerate(chosen):
        if number < 6:
            (folder / "audio" / f"Yvideo{number}.ogg").symlink_to(real / "audio" / row["filename"])
        lines.append(f'video{number}, 30.000, 35.000, "{mids[names[row["category"]]]}"')
    (folder / "eval_segments.csv").write_text("\n".join(lines))
    return folder / "eval_segments.csv"


def audioset_file() -> Path:
    import satexport

    return Path(satexport.__file__).parent / "data" / "audioset_labels.csv"


def test_the_map_of_a_row_is_that_of_parity_streamed_and_by_the_papers_protocol(
        scored: dict[str, Any], demo: Path, audioset_style: Path, tmp_path: Path) -> None:
    report = tmp_path / "parity.json"
    assert call("parity", demo, "--data", audioset_style, "--minutes", 0.1, "--report", report).code == 0
    found = json.loads(report.read_text())["labelled_set"]
    for key in ("clip_protocol_map", "pytorch_map", "bundle_map"):
        assert scored["labelled_set"][key] == found[key]
    assert scored["figures"]["streamed_map"] == 100 * found["pytorch_map"]
    assert scored["checkpoint"]["source"] == "demo"


def test_clips_of_the_list_that_are_missing_are_counted(scored: dict[str, Any]) -> None:
    assert scored["labelled_set"]["clips"] == 6
    assert scored["labelled_set"]["origin"]["missing"] == 2


def test_with_random_weights_there_is_no_figure_of_a_set(bundles: Path, audioset_style: Path) -> None:
    result = call("paper", "table2", "--only", "sat-t-2s", "--no-measure", "--bundles", bundles / "random",
                  "--data", audioset_style, "--json")
    row = row_of(result.out)
    assert result.code == 0
    assert "labelled_set" not in row
    assert row["why_not"] == "no checkpoint is given"


def test_a_set_without_strong_labels_is_skipped_and_never_passed(bundles: Path, audioset_style: Path) -> None:
    options = ("--bundles", bundles, "--data", audioset_style, "--only", "sat-t-2s",
               "--checkpoint", "sat-t=demo")
    result = call("paper", "table3", *options)
    assert (result.code, "has no strong labels" in result.out) == (0, True)
    result = call("paper", "table3", *options, "--require-data")
    assert (result.code, "sat-t-2s has no figure of the labelled set" in result.err) == (1, True)


def test_f1_of_events_stands_beside_the_papers(bundles: Path, audioset_style: Path) -> None:
    strong = audioset_style.with_name("strong.tsv")
    strong.write_text("filename\tonset\toffset\tevent_label\nYvideo0.ogg\t0.5\t2.5\tDog\n"
                      "Yvideo1.ogg\t1\t3\tDog\n")
    result = call("paper", "table3", *DEMO, "--bundles", bundles, "--data", strong, "--json")
    row = row_of(result.out)
    events = row["labelled_set"]["events"]
    assert row["figures"]["measured_segment_f1"] == 100 * events["pytorch"]["segment_f1"]
    assert row["published"]["segment_f1"] == 28.9


def test_the_export_of_an_earlier_command_is_used_again(bundles: Path, demo: Path, tmp_path: Path) -> None:
    place = place_of(bundles, demo)
    before = open_bundle(place).sha256, place.stat().st_ino
    out = tmp_path / "table.md"
    assert call("paper", "table2", *DEMO, "--bundles", bundles, "-o", out).code == 0
    assert (open_bundle(place).sha256, place.stat().st_ino) == before
    text = out.read_text()
    assert "| sat-t-2s | SAT-T        | 2   |" in text
    assert "Weights: demo (sat-t-2s)." in text
    assert "Nothing was scored" in text


def test_memory_is_that_of_one_step_and_of_a_backward_pass(bundles: Path) -> None:
    need("memray", "measure")
    result = call("paper", "table2", *DEMO[:-1], "--bundles", bundles,
                  "--json")
    memory = row_of(result.out)["memory_bytes"]
    assert memory["state"] == 884_736
    assert 0.5e6 < memory["transient"] < 2e6
    assert 6e6 < memory["autograd"] < 9e6   # the paper: 9 MB for SAT-T, 7.6 MB for ViT-T


@pytest.mark.parametrize(("arguments", "code", "text"), [
    (["table9"], 2, "table9"),
    (["table2", "--checkpoint", "sat-t-2s"], 2, "expected ROW=FILE"),
    (["table2", "--checkpoint", "sat-x-2s=demo"], 2, "no such row in table2; expected one of sat-t-2s"),
    (["table2", "--checkpoint", "sat-t-2s=demo", "--checkpoint", "sat-t-2s=demo"], 2, "given twice"),
    (["table2", "--only", "sat-x*"], 2, "no such row"),
    (["table1", "--only", "KD-AST", "--checkpoint", "vit-t=demo"], 2, "--only leaves this row out"),
    (["table2", "--data", "nowhere"], 4, "does not exist"),
    (["table3", "--data", "scenes", "--only", "vit-t-1s", "--require-data"], 1, "none has a checkpoint"),
    (["table2", "--only", "sat-s-1s", "--checkpoint", "sat-s-1s=demo"], 2, "row sat-s-1s"),
    (["table2", "--only", "sat-t-2s", "--checkpoint", "sat-t-2s=nowhere.pt"], 4, "table2, row sat-t-2s: "),
    (["table2", "--only", "sat-t-2s", "--checkpoint", "sat-t-2s=demo", "--data", "nowhere"], 4, "does not "
                                                                                                "exist"),
    (["table2", "--folds", "4"], 2, "pass --data"),
    (["table2", "--labels", "Water"], 2, "--labels is for figure2"),
    (["table2", "build/sat-t-2s/onnx"], 2, "takes no bundle"),
    (["table2", "-o", "table.png"], 2, "expected one of .html, .md, .json"),
    (["table2", "-o", "nowhere/table.md", "--json"], 2, "choose one"),
    (["figure2"], 2, "name one"),
    (["figure2", "nowhere"], 2, "name some"),
    (["figure2", "nowhere", "--labels", "Water"], 4, "nowhere"),
    (["figure2", "nowhere", "--labels", "Water", "--data", "scenes"], 2, "--data is for tables"),
    (["figure2", "nowhere", "--labels", "Water", "--no-measure"], 2, "--measure/--no-measure is for tables")])
def test_wrong_use_is_said(arguments: list[str], code: int, text: str, bundles: Path, tmp_path: Path,
                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    more = ["--bundles", str(bundles), "--no-measure"] if arguments[0] != "figure2" else []
    result = call("paper", *arguments, *more)
    assert (result.code, text in result.err) == (code, True), result.err


def test_a_checkpoint_of_another_row_is_refused_by_name(bundles: Path, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    other = load_checkpoint("random", find_variant("sat-t", 1))
    save_file(other.state, tmp_path / "one.safetensors")
    result = call("paper", "table2", "--only", "sat-t-2s", "--no-measure", "--bundles", bundles,
                  "--checkpoint", f"sat-t-2s={tmp_path / 'one.safetensors'}")
    assert result.code == 4
    assert "table2, row sat-t-2s" in result.err
    assert "This looks like sat-t at 1 s" in result.err
    assert "give it to the row sat-t-1s" in result.err


# Figure 2.

def test_scores_with_the_cache_are_those_of_a_stream_and_without_it_those_of_each_chunk_alone(
        demo: Path, clip: Path) -> None:
    result = call("paper", "figure2", demo, "--recording", clip, "--labels", "Dog,Rain", "--json")
    report = json.loads(result.out)
    cached, reset = report["curves"]
    assert [cached["is_reset"], reset["is_reset"]] == [False, True]
    tagger = load(demo)
    audio = read(clip)
    dog = tagger.labels.index("Dog")
    stream = [scores[dog] for scores in tagger.stream().feed(audio)]
    alone = [tagger.stream().feed(audio[at:at + 32_000])[0][dog] for at in range(0, len(audio), 32_000)]
    assert cached["scores"]["Dog"] == pytest.approx([float(score) for score in stream], abs=1e-6)
    assert reset["scores"]["Dog"] == pytest.approx([float(score) for score in alone], abs=1e-6)
    assert cached["scores"]["Dog"][0] == reset["scores"]["Dog"][0]
    assert cached["scores"]["Dog"][1:] != reset["scores"]["Dog"][1:]
    assert report["seconds"] == len(audio) / 16_000


def read(clip: Path) -> Any:
    from satexport.audio.files import read_audio

    return read_audio(clip, 16_000)


@pytest.fixture(scope="module")
def clip(audio: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds of sound."""
    soundfile = need("soundfile", "audio")
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    soundfile.write(path, audio[:160_000], 16_000, subtype="FLOAT")
    return path


def test_the_picture_shows_every_label_and_bundle(demo: Path, random_vit: Path, clip: Path,
                                                  tmp_path: Path) -> None:
    need("matplotlib", "measure")
    out = tmp_path / "figure2.png"
    result = call("paper", "figure2", demo, random_vit, "--recording", clip, "--labels", "Dog,Rain",
                  "-o", out)
    assert (result.code, out.read_bytes()[:8]) == (0, b"\x89PNG\r\n\x1a\n")
    assert "RANDOM WEIGHTS" in result.err


def test_scenes_come_with_the_times_of_their_sounds(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satexport.paper.scores.SCENES", 2)
    labels = sorted({event.label for event in scene_events("evaluate", 0)})[:1]
    result = call("paper", "figure2", tiny, "--labels", labels[0], "--json")
    report = json.loads(result.out)
    events = [event for number in range(2) for event in scene_events("evaluate", number)
              if event.label == labels[0]]
    assert report["seconds"] == 120
    assert len(report["events"][labels[0]]) == len(events)
    assert report["events"][labels[0]][0] == [events[0].onset, events[0].offset]


@pytest.mark.parametrize("space", ["", " "])
def test_a_label_with_a_comma_is_one_label(space: str) -> None:
    label = next(label for label in audioset_labels() if ", " in label)
    assert split_labels(f"Dog,{space}{label},{space}Unicorn", set(audioset_labels())) == [
        "Dog", label, "Unicorn"]
    with pytest.raises(UsageError, match="a label is empty"):
        split_labels("Dog,,Rain", ["Dog", "Rain"])


def test_a_label_that_a_bundle_lacks_and_a_file_that_is_no_sound_are_said(tiny: Path, tmp_path: Path) -> None:
    result = call("paper", "figure2", tiny, "--labels", "Unicorn")
    assert (result.code, "has no such label" in result.err) == (2, True)
    (tmp_path / "text.wav").write_text("no sound")
    result = call("paper", "figure2", tiny, "--labels", "Dog", "--recording", tmp_path / "text.wav")
    assert (result.code, "cannot be read as audio" in result.err) == (4, True)


def test_a_report_of_scores_is_shown_again_and_drawn_from_its_file(tiny: Path, clip: Path,
                                                                   tmp_path: Path) -> None:
    out = tmp_path / "figure2.json"
    assert call("paper", "figure2", tiny, "--recording", clip, "--labels", "Dog", "-o", out).code == 0
    assert "scores of Dog over 10 s of clip.wav" in call("report", out).out
    need("matplotlib", "measure")
    assert call("report", out, "-o", tmp_path / "figure2.png").code == 0
