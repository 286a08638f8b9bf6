"""TOML files: types and sizes of their content."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from satexport import facts
from satexport.errors import DataError
from satexport.targets import find_target
from tests.own_targets import MINE, write


@dataclass(frozen=True)
class Facts:
    """A field of each type that a TOML may have."""

    pair: tuple[int, str] = (1, "a")
    levels: tuple[float, ...] = ()
    flags: tuple[bool, ...] = ()
    ratios: dict[str, float] = field(default_factory=dict)
    limit: float | None = None
    size: int | str = 0


@pytest.mark.parametrize(("fields", "expected"), [
    ({"levels": [0.5, 1]}, "levels"), ({"levels": ["a"]}, "levels is ['a'], expected a list of numbers."),
    ({"levels": [True]}, "levels is [True], expected a list of numbers."),
    ({"levels": 0.5}, "levels is 0.5, expected a list of numbers."),
    ({"flags": [True]}, "flags"), ({"flags": [1]}, "flags is [1], expected a list of booleans."),
    ({"pair": [1, "a"]}, "pair"), ({"pair": [1, "a", "b"]}, "pair is [1, 'a', 'b'], expected"),
    ({"ratios": {"a": 1, "b": 0.5}}, "ratios"),
    ({"ratios": {"a": "b"}}, "ratios is {'a': 'b'}, expected a table of numbers."),
    ({"limit": None}, "limit"), ({"limit": 2}, "limit"), ({"limit": "2"}, "limit is '2', expected a number."),
    ({"size": 1}, "size"), ({"size": "a"}, "size"),
    ({"size": 1.5}, "size is 1.5, expected a whole number or a string.")])
def test_a_key_may_be_a_list_or_a_table_of_any_type(fields: dict[str, object], expected: str) -> None:
    if expected in fields:
        (value,) = fields.values()
        found = facts.check_fields(Facts, fields, Path("x.toml"))[expected]
        assert found == (tuple(value) if isinstance(value, list) else value)
    else:
        with pytest.raises(DataError, match=re.escape(f"x.toml: {expected}")):
            facts.check_fields(Facts, fields, Path("x.toml"))


@pytest.mark.parametrize(("text", "words"), [
    (f"threads = {'9' * 5000}", "is not a readable TOML"),
    (f"threads = 0x{'f' * 900}", "..., expected 1 to 256"),
    ("threads = " + "[\n" * 50_000, "is not a readable TOML: it is nested too deeply"),
    (f"threads = {'[' * 400}{']' * 400}", "threads is [[[["),
    ("a." * 50_000 + "b = 1", "line 1 has more than 1000 characters. Split a list into several"),
    ("# x\n" * 60_000, "longer than 0.2 MB"),
    (f"{'k' * 900} = 1", "unknown key 'kkk"),
    ('description = "\\u001b[2J"', r"description is '\x1b[2J', expected one line of printable")],
    ids=lambda text: text[:20])
def test_a_toml_of_excessive_size_or_depth_is_refused_with_a_short_message(
        tmp_path: Path, text: str, words: str) -> None:
    key = text.split(" =", maxsplit=1)[0]
    kept = "\n".join(line for line in MINE.split("\n") if not line.startswith(key))
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        find_target(write(tmp_path, f"{text}\n{kept}"))
    assert len(str(caught.value)) < 600
