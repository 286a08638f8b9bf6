"""`satexport models` and the papers' figures: every SAT, ViT and CED, the numbers of the sources, JSON."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from satexport.models.sat.network import Transformer
from satexport.models.sat.paper import CED_NOTE, NOTE, PAPER
from satexport.models.sat.published import PUBLISHED
from satexport.models.sat.variants import VARIANTS, find_model
from tests.commands.calls import START, call
from tests.machine import need

# Table 2 as printed: delay, then memory MB, GFLOPs and mAP of the sizes T / S / B
TABLE_2 = """
sat 2  9 / 18 / 36       0.5 / 2.1 / 8.2   43.3 / 43.4 / 45.1
sat 1  4.3 / 9 / 16      0.3 / 1.1 / 4.1   40.1 / 40.2 / 41.4
vit 2  7.6 / 15 / 30     0.5 / 2.1 / 8.2   39.1 / 40.9 / 41.5
vit 1  3.8 / 7.5 / 14    0.3 / 1.1 / 4.1   33.0 / 34.9 / 34.2
vit 10 52 / 105 / 210    2.7 / 10 / 42     44.2 / 45.7 / 47.4
"""


CED = {"tiny": 48.1, "mini": 49.0, "small": 49.6, "base": 50.0}  # mAP at 10 s, as printed (AS-2M)


def printed() -> dict[str, list[float | None]]:
    """Memory, GFLOPs and mAP of each variant, read off the tables above."""
    found: dict[str, list[float | None]] = {
        f"ced-{size}-10s": [None, None, score] for size, score in CED.items()}
    for line in TABLE_2.strip().splitlines():
        kind, delay, *values = line.replace("/", " ").split()
        for size in range(3):
            found[f"{kind}-{'tsb'[size]}-{delay}s"] = [float(v) for v in values[size::3]]
    return found


@cache
def document() -> dict[str, dict[str, Any]]:
    """What `models --json` says of each variant."""
    models = json.loads(call("models", "--json").out)["models"]
    return {entry["name"]: entry for entry in models if entry["family"] == "sat"}


@cache
def tables() -> list[list[list[str]]]:
    """The cells of the tables of the family that `models` prints: sizes, files, figures of papers."""
    found: list[list[list[str]]] = []
    for line in call("models").out.splitlines():
        if line.startswith("┏"):
            found.append([])
        elif line.startswith("│"):
            found[-1].append([cell.strip() for cell in line.split("│")[1:-1]])
    models = {variant.model for variant in VARIANTS.values()}
    return [table for table in found if table[0][0] in models]


def names_of(table: list[list[str]]) -> list[str]:
    """The variants of a table, whose rows begin with "vit-t" and "1, 2, 10"."""
    return [f"{row[0]}-{delay}s" for row in table for delay in row[1].split(", ")]


NAMES = [variant.name for variant in VARIANTS.values()]


def test_the_papers_tables_have_every_variant_but_short_ced_and_nothing_else() -> None:
    short = {f"ced-{size}-{delay}s" for size in CED for delay in (1, 2)}
    assert set(PAPER) == set(NAMES) - short == set(printed())


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_figures_are_those_of_its_table(name: str) -> None:
    (figures,) = PAPER[name]
    assert [figures.memory_mb, figures.gflops, figures.map] == printed()[name]


def test_every_variant_is_listed_with_its_size_its_file_and_its_paper() -> None:
    sizes, public, papers = tables()
    assert sorted(names_of(sizes)) == sorted(names_of(public)) == sorted(NAMES)
    assert sorted(names_of(papers)) == sorted(PAPER)


@pytest.mark.parametrize(("start", "cells"), [  # the cache sizes are those that the prototype measured
    (["sat-t", "2"], ["48/48", "5.50", "192", "3", "mean", "mean", "0.88", "12"]),
    (["sat-s", "2"], ["49/48", "21.61", "384", "6", "token", "token", "1.77", "12"]),
    (["sat-s", "1"], ["25/48", "21.61", "384", "6", "token", "token", "1.70", "24"]),
    (["sat-b", "2"], ["48/48", "85.68", "768", "12", "mean", "mean", "3.54", "12"]),
    (["vit-b", "1, 2, 10"], ["24, 48, 248", "85.71", "768", "12", "mean", "mean", "-", "-"]),
    (["ced-mini", "1, 2, 10"], ["24, 48, 248", "9.70", "256", "4", "mean", "mean", "-", "-"])], ids=str)
def test_a_model_is_listed_with_its_sizes_and_what_it_remembers(start: list[str], cells: list[str]) -> None:
    assert [row[2:] for row in tables()[0] if row[:2] == start] == [cells]


@pytest.mark.parametrize("model", ["sat-t", "vit-s", "ced-mini"])
def test_the_weights_that_are_counted_are_those_that_pytorch_trains(model: str) -> None:
    torch = need("torch", "export")
    variant = next(iter(find_model(model).values()))
    with torch.device("meta"):
        network = Transformer(variant, 527)
    count = sum(weight.numel() for weight in network.parameters())
    assert document()[variant.name]["parameters"] == count


def test_the_papers_figures_are_printed_as_the_papers() -> None:
    out = call("models").out
    assert out.index("figures of the paper") < out.index("GFLOPs")
    assert {NOTE, CED_NOTE} <= set(out.splitlines())
    for model, delay, _, gflops, memory, score in tables()[2]:
        figures = [None if cell == "-" else float(cell) for cell in (memory, gflops, score)]
        assert figures == printed()[f"{model}-{delay}s"]


@pytest.mark.parametrize("file", sorted({published.file for (published,) in PUBLISHED.values()}))
def test_every_published_file_is_named_whole(file: str) -> None:
    licence = "Apache-2.0" if re.search(r"mAP_\d{4}", file) else "-"  # of CED; nobody has read SAT's
    assert [file, licence] in [row[-2:] for row in tables()[1]]


def test_a_vit_file_serves_every_delay_and_a_sat_file_its_own() -> None:
    files = {name: entry["files"][0] for name, entry in document().items()}
    assert {files[f"vit-s-{delay}s"] for delay in (1, 2, 10)} == {"audiotransformer_small_mAP_45_68.pt"}
    assert len({file for name, file in files.items() if name.startswith("sat")}) == 6
    assert len({file for name, file in files.items() if name.startswith("ced")}) == 4
    assert files == {name: published.file for name, (published,) in PUBLISHED.items()}


def test_json_is_one_document_and_nothing_else() -> None:
    result = call("models", "--json")
    assert (result.code, result.err) == (0, "")
    assert list(json.loads(result.out)) == ["models"]
    assert sorted(document()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_json_says_of_a_model_what_the_export_does_with_it(name: str) -> None:
    entry = document()[name]
    variant = find_model(entry["model"])[entry["delay"]]
    assert variant.name == name
    for key in ("new_tokens", "cache_tokens", "width", "heads", "pooling", "memory_steps"):
        assert entry[key] == getattr(variant, key)
    papers = [[paper[key] for key in ("memory_mb", "gflops", "map")] for paper in entry["papers"]]
    assert papers == ([printed()[name]] if name in printed() else [])


@pytest.mark.parametrize(("name", "layers"), [("sat-t-1s", 12), ("sat-b-2s", 12), ("sat-s-1s", 11.5),
                                              ("vit-t-10s", 0)])
def test_the_size_of_a_cache_is_that_of_keys_and_values_of_every_layer(name: str, layers: float) -> None:
    entry = document()[name]  # SAT-S at 1 s keeps hidden tokens in layer 0, half of keys and values
    assert entry["cache_bytes"] == layers * 2 * entry["cache_tokens"] * entry["width"] * 4


@pytest.mark.parametrize(("command", "has"), [("models", b"sat-t"), ("targets", b"cpu-int8")])
def test_a_list_needs_no_package_of_an_extra_and_lets_its_reader_leave(command: str, has: bytes) -> None:
    absent = "import sys; sys.modules.update(dict.fromkeys(('torch', 'onnx', 'onnxruntime', 'soundfile')))"
    program = [sys.executable, "-c", f"{absent}\n{START}", command]
    assert has in subprocess.run(program, capture_output=True, check=True).stdout
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(program, stdout=writing, stderr=subprocess.PIPE, encoding="utf-8", check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
