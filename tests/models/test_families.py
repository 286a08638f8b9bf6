"""The table of families: its modules meet the protocol, and no other code names a family or a model."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from inspect import signature
from pathlib import Path

import pytest

from satexport.frontends.rows import FRONT_ENDS
from satexport.models.families import FAMILIES, all_variants, find_family, marks, named_variant
from satexport.models.family import Family, Variant
from satexport.models.sat import family as sat
from satexport.models.sat.variants import Variant as Sat
from tests import ROOT

PACKAGE = ROOT / "satexport"
SHARED = [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] != "models"
          or (path.parent == PACKAGE / "models" and path.name != "families.py")]


def test_the_module_meets_the_protocol() -> None:
    module: Family[Sat] = sat  # mypy compares each signature with the protocol
    assert {name for name in vars(Family) if name[0] != "_"} - set(dir(module)) == set()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_function_of_a_family_has_the_signature_of_the_protocol(name: str) -> None:
    family = find_family(name)
    for function, of_protocol in vars(Family).items():
        if function[0] != "_" and callable(of_protocol):
            _, *expected = signature(of_protocol).parameters.values()  # without self
            found = signature(getattr(family, function)).parameters.values()
            for parameter, other in zip(expected, found, strict=True):
                kind = re.sub(r"\bV\b", "Variant", parameter.annotation)
                assert (parameter.name, parameter.default) == (other.name, other.default), function
                assert kind in (other.annotation, "Any"), function


def test_every_variant_is_found_by_its_name_and_belongs_to_its_family() -> None:
    variants = all_variants()
    assert len({variant.name for variant in variants}) == len(variants)
    for variant in variants:
        assert named_variant(variant.name) == variant
        assert find_family(variant.family).find_model(variant.model)[variant.delay] == variant
    assert marks() == {mark for name in FAMILIES for mark in find_family(name).MARKS}


@pytest.mark.parametrize("variant", all_variants(), ids=lambda variant: variant.name)
def test_a_variant_takes_the_audio_that_its_front_end_and_a_stream_give(variant: Variant) -> None:
    assert FRONT_ENDS[variant.front_end].sample_rate == variant.sample_rate
    assert variant.hop_samples == variant.delay * variant.sample_rate
    assert variant.window_samples == variant.window * variant.sample_rate
    assert variant.window == variant.delay  # a longer one is chosen with `--window`


def test_the_tables_of_a_family_contain_only_its_variants() -> None:
    for name in FAMILIES:
        family = find_family(name)
        names = {variant.name for variant in family.VARIANTS.values()}
        for table in (family.PUBLISHED, family.DEMOS, family.PAPER):
            assert table.keys() <= names


def test_the_table_imports_neither_torch_nor_onnx() -> None:
    program = ("import sys; sys.modules.update(dict.fromkeys(('torch', 'onnx', 'onnxruntime')))\n"
               "from satexport.models.families import all_variants; all_variants()")
    subprocess.run([sys.executable, "-c", program], check=True)


def names_in_code(path: Path) -> Iterator[str]:
    """Yield the imported modules, the names and the one-word strings in a file. Docstrings and sentences,
    such as help and errors, may give a model as an example."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            yield node.value
        elif isinstance(node, ast.Name):
            yield node.id


@pytest.mark.parametrize("path", SHARED, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_table_names_a_family_or_a_model(path: Path) -> None:
    models = {variant.model for variant in all_variants()}
    named = re.compile(rf"\b(?:{'|'.join(models)})\b|\bmodels\.(?:{'|'.join(FAMILIES)})\b", re.IGNORECASE)
    assert not [name for name in names_in_code(path) if named.search(name)]


def test_the_search_for_names_finds_the_table() -> None:
    assert any("models.sat" in name for name in names_in_code(PACKAGE / "models" / "families.py"))
