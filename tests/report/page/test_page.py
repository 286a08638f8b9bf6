"""One page shows what bundles are worth: what each is, its gates, its figures, and where they come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from satexport.bundle.folder import open_bundle
from satexport.origin import origin
from satexport.report.figures import BRIEF_CASE_FIGURES, MEASURE_FIGURES, present
from satexport.report.page.subjects import find_subjects
from satexport.report.page.write import write_page
from satexport.report.sources import read_sources
from tests.report.page.bundles import three_bundles
from tests.report.page.reader import Element, page_of, read_page, section_of
from tests.report.records import measure_report


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return three_bundles(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def page(bundles: list[Path]) -> Element:
    return page_of(bundles)


def test_the_head_has_the_verdict_and_a_link_to_each_bundle(page: Element) -> None:
    (header,) = page.all("header")
    assert header.all("h1")[0].text == "3 bundles compared"
    assert "No gate of 3 bundles failed; 1 was not judged, or only in part" in header.text
    links = {link.attributes["href"]: link.text for link in header.all("a")}
    assert links == {"#bundle-1": "1 sat-t-2s/onnx", "#bundle-2": "2 sat-t-2s/cpu-int8",
                     "#bundle-3": "3 sat-t-2s/cpu-int8-avx2"}
    assert {f"#{heading.attributes['id']}" for heading in page.all("h2")} >= set(links)


def test_the_comparison_has_every_brief_figure_of_every_bundle_once(
        page: Element, bundles: list[Path]) -> None:
    cases = [subject.cases[0][1] for subject in find_subjects(read_sources(bundles)[0])]
    figures = present(BRIEF_CASE_FIGURES, cases)
    head, *rows = page.table("figures of the bundles")
    assert head == ["no.", "bundle", "gates", *(figure.head for figure in figures)]
    assert rows == [[str(number), case.name, case.status, *(figure.text(case) for figure in figures)]
                    for number, case in enumerate(cases, 1)]


def test_speed_is_drawn_against_map_kept_and_a_bundle_without_a_set_lies_in_a_strip(page: Element) -> None:
    comparison = section_of(page, "Comparison")
    labels = [picture.attributes["aria-label"] for picture in comparison.all("svg", role="img")]
    assert len(labels) == 2
    assert "1 sat-t-2s/onnx, 2.50 ms, 99.0% of mAP" not in labels[0]  # it has quantiles of its own
    assert "99.0% of mAP; 2 sat-t-2s/cpu-int8, 2.50 ms, no labelled set" in labels[0]
    assert "sat-t-2s/PyTorch eager, 7.50 ms" in labels[0]
    assert "CPU time per chunk against mAP kept" in labels[1]


def test_a_bundle_is_described_by_its_contract(page: Element) -> None:
    facts = {row.all("dt")[0].text: row.all("dd")[0].text
             for row in section_of(page, "sat-t-2s/onnx").all("div") if len(row.all("dt")) == 1}
    assert facts["model"] == "sat-t-2s, family sat"
    assert facts["scores"] == "each chunk of 2 s, with a cache of those before; 2 classes"
    assert facts["audio"] == "16 kHz, window 2 s, hop 2 s"
    assert facts["input"] == "audio [1, 32000] float32"
    assert facts["cache"] == "2 tensors, 2 of [1, 6, 48, 64] float32: 0.15 MB"
    assert facts["depends on"] == "1 earlier chunk"
    assert facts["checkpoint, SHA-256"] == "ab" * 32


def test_gates_say_their_result_in_words_and_the_reason(page: Element) -> None:
    gates = section_of(page, "sat-t-2s/cpu-int8").table("gates of")
    assert gates == [["gate", "result", "condition"], *[["mAP kept", "passed", "0.99, at least 0.9"]] * 2]


def test_the_curve_has_its_quantiles_and_the_drift_in_words(page: Element) -> None:
    section = section_of(page, "sat-t-2s/onnx")
    labels = [picture.attributes["aria-label"] for picture in section.all("svg", role="img")]
    assert ("mean score difference of each of 33 chunks; largest difference 1.2e-02, p50 1.0e-05, p90 "
            "3.0e-05, p99 5.0e-05. Drift over 10 min of stream: +5.0% of the mean difference") in labels[0]
    assert section.text.count("Drift over 10 min of stream: +5.0%") == 1
    (curve,) = section.all("path", **{"class": "curve"})[1:]  # after the key
    assert curve.attributes["d"].count("L") == 32
    again = [rectangle for rectangle in section.all("rect") if rectangle.attributes["class"] == "again"]
    assert [rectangle.attributes["x"] for rectangle in again] == [f"{3000 / 32:.2f}%".replace(".75", ".75")]


def test_classes_compare_the_bundle_with_pytorch(page: Element) -> None:
    table = section_of(page, "sat-t-2s/onnx").table("Average precision of each class, ESC-50")
    assert table == [
        ["class", "", "AP, bundle", "AP, PyTorch", "change", "95 % interval", "AUC, bundle",
         "best F1, bundle"],
        ["Dog", "", "0.500", "0.500", "+0.000", "[0.850, 0.950]", "0.750", "0.600"]]


def test_memory_is_shown_by_kind_beside_pytorch_and_the_paper(page: Element) -> None:
    memory = section_of(page, "sat-t-2s/onnx").table("memory of")
    entry = measure_report().bundles[0]
    expected = [[figure.title, figure.text(entry)] for figure in MEASURE_FIGURES
                if figure.unit == "MB" and not figure.panel_of and figure.of(entry) is not None]
    assert [[row[0], row[2]] for row in memory[1:]] == expected
    assert [row[4] for row in memory[1:] if row[0] == "transient"] == ["9"]


def test_latency_is_a_line_if_the_report_has_its_quantiles_and_else_three_marks(page: Element) -> None:
    def lines(name: str) -> int:
        (figure,) = [figure for figure in section_of(page, name).all("figure")
                     if figure.all("h3")[0].text == "Time of a step"]
        (frame,) = figure.all("div", **{"class": "frame"})
        assert len(frame.all("svg", **{"class": "mark"})) == 6
        return len(frame.all("path", **{"class": "line c0"})) + len(frame.all("path", **{"class": "line c1"}))

    assert (lines("sat-t-2s/onnx"), lines("sat-t-2s/cpu-int8")) == (2, 0)


def test_layers_files_origins_and_definitions_are_there_once(page: Element, bundles: list[Path]) -> None:
    section = section_of(page, "sat-t-2s/onnx")
    layers = section.table("Score difference from the fp32 graph if only this layer is int8")
    assert layers[1][0] == "00.fc1"
    bundle = open_bundle(bundles[0])
    files = section.table("files of")
    assert [(row[0], row[1]) for row in files[1:]] == list(bundle.files.items())
    assert section.text.count(bundle.sha256) == 1
    assert section.text.count(f"Made on {origin()['cpu']}") == 1
    assert page.text.count("median time of a single step in a burst") == 1
    assert page.text.count("Drift is the slope of") == 1


def test_no_section_says_a_sentence_twice(page: Element) -> None:
    for section in page.all("section", **{"class": "bundle"}):
        sentences = [paragraph.text for paragraph in section.all("p")]
        assert len(set(sentences)) == len(sentences)
        assert "sat-t-2s scores each chunk" not in section.text  # its contract says so


def test_each_table_can_be_scrolled_by_keyboard_and_has_a_name_of_its_own(page: Element) -> None:
    regions = page.all("div", role="region")
    assert {region.attributes["tabindex"] for region in regions} == {"0"}
    names = [region.attributes["aria-label"] for region in regions]
    assert len(set(names)) == len(names)
    assert {head.attributes["scope"] for head in page.all("th")} == {"row", "col"}


def test_every_table_of_the_terminal_is_on_the_page(page: Element) -> None:
    titles = " ".join(heading.text for heading in page.all("h3"))
    for title in ("score differences after each stage", "score differences from PyTorch fp32",
                  "embeddings compared with PyTorch", "mAP over 1 classes", "9 events"):
        assert title in titles


def test_a_page_has_no_address_and_may_load_nothing(bundles: list[Path]) -> None:
    html = write_page(read_sources(bundles)[0])
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html
    policy = read_page(html).all("meta", **{"http-equiv": "Content-Security-Policy"})[0].attributes["content"]
    assert policy.startswith("default-src 'none'; ")
    assert "script-src 'sha256-" in policy


def test_the_same_reports_give_the_same_bytes(bundles: list[Path]) -> None:
    assert write_page(read_sources(bundles)[0]) == write_page(read_sources(bundles)[0])

