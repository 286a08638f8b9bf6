"""`satexport models`: every SAT and ViT, the figures of the paper, JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from satexport.models.sat.paper import NOTE, PAPER
from satexport.models.sat.published import PUBLISHED
from satexport.models.sat.variants import VARIANTS, find_model
from tests.commands.calls import START, call

# Table 2 as printed: delay, then memory MB, GFLOPs and mAP of the sizes T / S / B
TABLE_2 = """
sat 2  9 / 18 / 36       0.5 / 2.1 / 8.2   43.3 / 43.4 / 45.1
sat 1  4.3 / 9 / 16      0.3 / 1.1 / 4.1   40.1 / 40.2 / 41.4
vit 2  7.6 / 15 / 30     0.5 / 2.1 / 8.2   39.1 / 40.9 / 41.5
vit 1  3.8 / 7.5 / 14    0.3 / 1.1 / 4.1   33.0 / 34.9 / 34.2
vit 10 52 / 105 / 210    2.7 / 10 / 42     44.2 / 45.7 / 47.4
"""


def printed() -> dict[str, list[float]]:
    """Memory, GFLOPs and mAP of each variant, from the table above."""
    found = {}
    for line in TABLE_2.strip().splitlines():
        kind, delay, *values = line.replace("/", " ").split()
        for size in range(3):
            found[f"{kind}-{'tsb'[size]}-{delay}s"] = [float(v) for v in values[size::3]]
    return found


def document() -> dict[str, dict[str, Any]]:
    """The output of `models --json` for each variant."""
    models = json.loads(call("models", "--json").out)["models"]
    return {entry["name"]: entry for entry in models if entry["family"] == "sat"}


def rows() -> list[list[str]]:
    """The cells that `models` prints: fifteen lines of sizes, then fifteen with the paper's figures."""
    lines = [line for line in call("models").out.splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    return [row for row in cells if name_of(row) in NAMES]


def name_of(row: list[str]) -> str:
    """The variant of a row that starts with cells such as "sat-t" and "2 s"."""
    return f"{row[0]}-{row[1].replace(' ', '')}"


NAMES = [variant.name for variant in VARIANTS.values()]


def test_the_papers_table_has_every_variant_and_nothing_else() -> None:
    assert sorted(PAPER) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_papers_figures_are_those_of_its_table(name: str) -> None:
    figures = PAPER[name]
    assert [figures.memory_mb, figures.gflops, figures.map] == printed()[name]


def test_both_tables_list_every_variant() -> None:
    names = [name_of(row) for row in rows()]
    assert len(names) == 30
    assert sorted(names[:15]) == sorted(names[15:]) == sorted(NAMES)


@pytest.mark.parametrize(("start", "cells"), [  # the cache sizes are those that the prototype measured
    (["sat-t", "2 s"], ["48/48", "192", "3", "mean", "12", "0.88"]),
    (["sat-s", "2 s"], ["49/48", "384", "6", "token", "12", "1.77"]),
    (["sat-s", "1 s"], ["25/48", "384", "6", "token", "24", "1.70"]),
    (["sat-b", "2 s"], ["48/48", "768", "12", "mean", "12", "3.54"]),
    (["vit-b", "10 s"], ["248/0", "768", "12", "mean", "-", "-"])], ids=str)
def test_a_model_is_listed_with_its_sizes_and_its_memory(start: list[str], cells: list[str]) -> None:
    assert [row[2:] for row in rows()[:15] if row[:2] == start] == [cells]


def test_the_papers_figures_are_printed_as_the_papers() -> None:
    out = call("models").out
    assert out.index("figures of the paper") < out.index("GFLOPs")
    assert NOTE in out.splitlines()
    for model, delay, gflops, memory, score, *_ in rows()[15:]:
        assert [float(memory), float(gflops), float(score)] == printed()[f"{model}-{delay[:-2]}s"]


@pytest.mark.parametrize("file", sorted({published.file for published in PUBLISHED.values()}))
def test_every_published_file_is_listed_with_its_full_name(file: str) -> None:
    assert file in [row[-2] for row in rows()[15:]]


def test_a_vit_file_serves_every_delay_and_a_sat_file_its_own() -> None:
    files = {name: entry["file"] for name, entry in document().items()}
    assert {files[f"vit-s-{delay}s"] for delay in (1, 2, 10)} == {"audiotransformer_small_mAP_45_68.pt"}
    assert len({file for name, file in files.items() if name.startswith("sat")}) == 6
    assert files == {name: published.file for name, published in PUBLISHED.items()}


def test_json_is_one_document_and_nothing_else() -> None:
    result = call("models", "--json")
    assert (result.code, result.err) == (0, "")
    assert list(json.loads(result.out)) == ["models"]
    assert sorted(document()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_json_describes_a_model_as_the_export_does(name: str) -> None:
    entry = document()[name]
    variant = find_model(entry["model"])[entry["delay"]]
    assert variant.name == name
    for key in ("new_tokens", "cache_tokens", "width", "heads", "pooling", "memory_steps"):
        assert entry[key] == getattr(variant, key)
    assert [entry["paper"][key] for key in ("memory_mb", "gflops", "map")] == printed()[name]


@pytest.mark.parametrize(("name", "layers"), [("sat-t-1s", 12), ("sat-b-2s", 12), ("sat-s-1s", 11.5),
                                              ("vit-t-10s", 0)])
def test_the_size_of_a_cache_is_that_of_keys_and_values_of_every_layer(name: str, layers: float) -> None:
    entry = document()[name]  # SAT-S at 1 s keeps hidden tokens in layer 0, half of keys and values
    assert entry["cache_bytes"] == layers * 2 * entry["cache_tokens"] * entry["width"] * 4


@pytest.mark.parametrize(("command", "has"), [("models", b"sat-t"), ("targets", b"cpu-int8")])
def test_the_list_needs_no_extra_and_its_output_may_be_closed_early(command: str, has: bytes) -> None:
    absent = "import sys; sys.modules.update(dict.fromkeys(('torch', 'onnx', 'onnxruntime', 'soundfile')))"
    program = [sys.executable, "-c", f"{absent}\n{START}", command]
    assert has in subprocess.run(program, capture_output=True, check=True).stdout
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(program, stdout=writing, stderr=subprocess.PIPE, encoding="utf-8", check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
