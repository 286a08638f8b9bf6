"""The model card: its head, its text, and its programs."""

from __future__ import annotations

import contextlib
import io
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from satexport.bundle.contract import CheckpointOrigin
from satexport.bundle.folder import open_bundle
from satexport.publish.licence import find_source
from satexport.publish.origins import describe_data
from satexport.publish.parts import Part
from satexport.report.records import ExportReport
from satexport.report.serialize import read_report
from tests.commands.calls import call
from tests.machine import need
from tests.publish.bundles import card_of, program_of, put_report, trained, with_reports, with_target
from tests.report.records import parity_report

COMMIT = 40 * "0"


def run_python(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], float]:
    """Run the program of a card in its folder; returns the lines for the chunks, and the largest
    difference."""
    monkeypatch.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(program_of(folder, "python"), "card", "exec"), {})
    *chunks, last = out.getvalue().splitlines()
    text, _, number = last.rpartition(": ")
    assert text == "largest difference from PyTorch"
    return chunks, float(number)


def test_the_python_program_gives_the_scores_of_pytorch(
        tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("hub", tiny, "-o", tmp_path / "hub").code == 0
    chunks, largest = run_python(tmp_path / "hub", monkeypatch)
    bundle = open_bundle(tiny)
    audio, outputs = bundle.golden()
    assert len(chunks) == len(audio)
    assert largest < 1e-5
    for line, scores in zip(chunks, outputs.scores, strict=True):
        assert line.startswith(f"[({bundle.labels[scores.argmax()]!r}")


@pytest.mark.long
@pytest.mark.parametrize("name", ["tiny_lanes", "tiny_embedding", "random_vit", "random_window"])
def test_the_python_program_runs_every_kind_of_bundle(
        name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    assert call("hub", request.getfixturevalue(name), "-o", tmp_path / "hub").code == 0
    assert run_python(tmp_path / "hub", monkeypatch)[1] < 1e-5


# What the text says.

def section(text: str, title: str) -> str:
    """The text below a heading; "" if there is none."""
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_random_weights_are_said_at_the_top_and_have_no_accuracy(tiny: Path, tmp_path: Path) -> None:
    with_reports(bundle := with_target(tiny, tmp_path, "cpu-fp32"))
    result = call("hub", bundle, "-o", tmp_path / "hub")
    head, text = card_of(tmp_path / "hub")
    assert text.index("The weights are random") < text.index("An audio tagger")
    assert head["license"] == "other"
    assert section(text, "Accuracy") == ""
    assert "mAP" not in text
    assert "The weights are random: the model card says so" in result.err


def test_figures_are_those_of_the_reports(tiny: Path, tmp_path: Path) -> None:
    with_reports(bundle := trained(tiny, tmp_path))
    result = call("hub", bundle, "-o", tmp_path / "hub")
    assert (result.code, "gates passed" in result.out) == (0, True)
    _, text = card_of(tmp_path / "hub")
    accuracy, speed = section(text, "Accuracy"), section(text, "Speed and memory")
    assert "ESC-50, fold 4: 1 classes" in accuracy
    for figure, value in (("mAP, bundle", "0.9108"), ("mAP, bundle, at least", "0.8500"), ("clips", "80")):
        assert [line.split("|")[2].strip() for line in accuracy.splitlines()
                if line.startswith(f"| {figure} ")] == [value]
    assert "| fp32  | mAP kept | passed | 0.99, at least 0.9" in accuracy
    assert "step in a burst, ms" in speed
    assert f"**{open_bundle(bundle).contract.variant}" not in speed
    assert "threads" in speed


def test_a_bundle_without_a_proof_is_said_to_have_none(tiny: Path, tmp_path: Path) -> None:
    bundle = trained(tiny, tmp_path)
    result = call("hub", bundle, "-o", tmp_path / "hub")
    _, text = card_of(tmp_path / "hub")
    assert "The fp32 graph is **not proven**" in text
    assert section(text, "Accuracy").strip() == "Not measured: no report compares these graphs with PyTorch."
    assert section(text, "Speed and memory").strip() == "Not measured."
    assert f"satexport parity {bundle}" in result.err


def test_what_satexport_does_not_know_is_left_to_the_publisher(tiny: Path, tmp_path: Path) -> None:
    result = call("hub", trained(tiny, tmp_path), "-o", tmp_path / "hub")
    head, text = card_of(tmp_path / "hub")
    assert (head["license"], "base_model" in head) == ("other", False)
    assert text.count("**Please fill in**") == 2
    assert "The licence of mine.pt is not known: state it with --license" in result.err
    assert call("hub", trained(tiny, tmp_path / "2"), "-o", tmp_path / "hub", "--license", "MIT").code == 0
    head, text = card_of(tmp_path / "hub")
    assert head["license"] == "mit"
    assert "under MIT, as the publisher of this folder states" in section(text, "Licence")


def test_the_head_is_what_the_hub_reads(tiny: Path, tmp_path: Path) -> None:
    bundle = trained(tiny, tmp_path, source="hub", name=f"hub:someone/some-model/model.pt@{COMMIT}")
    assert call("hub", bundle, "-o", tmp_path / "hub", "--license", "LicenseRef-Mine").code == 0
    head, _ = card_of(tmp_path / "hub")
    assert head == {
        "license": "other", "license_name": "licenseref-mine", "library_name": "onnx",
        "pipeline_tag": "audio-classification", "base_model": "someone/some-model",
        "tags": ["audio-tagging", "sound-event-detection", "streaming", "onnxruntime", "transformers.js",
                 "satexport", "sat"]}


def test_a_caution_of_the_export_is_a_limit_and_no_markup(tiny: Path, tmp_path: Path) -> None:
    bundle = trained(tiny, tmp_path, name="<b>`mine|*.pt")
    report = read_report(tiny / "reports" / "export.json")
    assert isinstance(report, ExportReport)
    put_report(bundle, "export.json", replace(report, caution="Check <b>this</b> *well*."))
    assert call("hub", bundle, "-o", tmp_path / "hub").code == 0
    _, text = card_of(tmp_path / "hub")
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert "<li>Check &lt;b&gt;this&lt;/b&gt; *well*.</li>" in html
    assert "<b>" not in html


def test_a_graph_with_8_bits_says_how_a_session_is_exact_everywhere(
        tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = need("onnxruntime", "cpu")
    for target, is_said in (("cpu-int8", True), ("cpu-int8-avx2", False)):
        assert call("hub", with_target(tiny, tmp_path, target), "-o", tmp_path / target / "hub").code == 0
        _, text = card_of(tmp_path / target / "hub")
        assert ("without VNNI" in section(text, "Limits")) == is_said
    monkeypatch.chdir(tmp_path / "cpu-int8" / "hub")
    program = section(card_of(tmp_path / "cpu-int8" / "hub")[1], "Limits").split("```")[1]
    names: dict[str, Any] = {"onnxruntime": onnxruntime}
    exec(textwrap.dedent(program.removeprefix("python\n")), names)
    assert names["session"].get_inputs()[0].name == "audio"


def test_every_table_has_as_many_cells_in_each_row(tiny: Path, tmp_path: Path) -> None:
    with_reports(bundle := trained(tiny, tmp_path), embeddings=parity_report().embeddings)
    assert call("hub", bundle, "-o", tmp_path / "hub").code == 0
    _, text = card_of(tmp_path / "hub")
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    assert sum(token.type == "table_open" for token in tokens) == text.count("\n| -") + text.count("\n|--")
    assert sum(token.type == "heading_open" for token in tokens) == 1 + text.count("\n## ")


def test_the_data_of_a_published_checkpoint_is_what_its_paper_says(tiny: Path) -> None:
    bundle = open_bundle(tiny)
    contract = replace(bundle.contract, variant="sat-t-2s", checkpoint=CheckpointOrigin(
        name="SAT_T_stream2s_mAP_43_34.pt", source="file", sha256="ab" * 32))
    part = Part(bundle=replace(bundle, contract=contract), reports=(), notes=())
    first, paper = describe_data([part], find_source(contract))
    assert "`SAT_T_stream2s_mAP_43_34.pt` (known by this name; no checksum was published)" in first
    assert paper.startswith("According to arXiv 2305.17834, Tables 2 and 3, the mAP is 43.3 %")
    assert "not measured here" in paper


# Licences.

@pytest.mark.parametrize(("family", "variant", "origin", "expected"), [
    ("efficientat", "mn04-1s", {"name": "mn04_as_mAP_432.pt", "source": "file",
     "sha256": "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c"}, ("mit", "")),
    ("efficientat", "mn04-1s", {"name": "mn04_as_mAP_432.pt", "source": "file"}, ("other", "")),
    ("efficientat", "mn04-1s", {"name": "mine.pt", "source": "file"}, ("other", "")),
    ("sat", "ced-mini-10s", {"name": "audiotransformer_mini_mAP_4896.pt", "source": "file"},
     ("apache-2.0", "")),
    ("sat", "sat-t-2s", {"name": "SAT_T_stream2s_mAP_43_34.pt", "source": "file"}, ("other", "")),
    ("ast", "ast-10s", {"name": f"hub:MIT/ast-finetuned-audioset-10-10-0.4593/x.pt@{COMMIT}",
                        "source": "hub"}, ("bsd-3-clause", "MIT/ast-finetuned-audioset-10-10-0.4593")),
    ("ast", "ast-10s", {"name": f"hub:someone/else/x.pt@{COMMIT}", "source": "hub"},
     ("other", "someone/else")),
    ("new", "unknown-1s", {"name": "mine.pt", "source": "file"}, ("other", "")),
    ("sat", "sat-t-2s", {"name": "demo", "source": "demo"}, ("apache-2.0", ""))])
def test_a_licence_comes_from_the_published_checkpoint_or_is_not_known(
        family: str, variant: str, origin: dict[str, str], expected: tuple[str, str], tiny: Path) -> None:
    checkpoint = CheckpointOrigin(**({"sha256": "ab" * 32} | origin))
    contract = replace(open_bundle(tiny).contract, family=family, variant=variant, checkpoint=checkpoint)
    source = find_source(contract)
    assert (source.licence.identifier, source.base_model) == expected


@pytest.mark.parametrize(("given", "expected"), [
    ("Apache-2.0", ("apache-2.0", "Apache-2.0")), ("GPL-3.0-only", ("gpl-3.0", "GPL-3.0-only")),
    ("cc-by-4.0", ("cc-by-4.0", "cc-by-4.0")), ("LicenseRef-Mine", ("other", "LicenseRef-Mine"))])
def test_a_licence_that_the_user_states_counts(
        given: str, expected: tuple[str, str], tiny: Path) -> None:
    licence = find_source(open_bundle(tiny).contract, given).licence
    assert (licence.identifier, licence.name) == expected
