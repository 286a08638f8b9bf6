"""Shares of operators in a step, by the profile of the runtime."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import shares
from satexport.bundle.folder import open_bundle
from satexport.errors import UsageError
from tests.backends.compiled import compiled
from tests.machine import need


def print_shares(*bundles: Path, monkeypatch: pytest.MonkeyPatch,
                 capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, float]]:
    """Run the command; return what it prints: bundle -> row -> percent."""
    monkeypatch.setattr(sys, "argv", ["shares", *map(str, bundles), "--steps", "10"])
    shares.main()
    tables: dict[str, dict[str, float]] = {}
    for line in capsys.readouterr().out.splitlines():
        if row := re.fullmatch(r" +([\d.]+)%  (.+)", line):
            tables[list(tables)[-1]][row[2]] = float(row[1])
        else:
            tables[line.partition(":")[0]] = {}
    return tables


def test_the_shares_of_operators_and_of_the_front_end_add_up_to_the_whole(
        tiny: Path, tiny_lanes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    need("openvino", "openvino")
    bundles = tiny_lanes, compiled(tiny, "cpu-int8", tmp_path), compiled(tiny, "openvino-int8", tmp_path)
    tables = print_shares(*bundles, monkeypatch=monkeypatch, capsys=capsys)
    assert [name.split()[1] for name in tables] == ["onnx", "cpu-int8", "openvino-int8"]
    for rows, products in zip(tables.values(), ("MatMul", "QAttention", "FullyConnected"), strict=True):
        assert sum(rows.values()) == pytest.approx(100, abs=2)
        assert any(row.startswith(products) for row in rows)
        assert "front end" in rows
        assert "Log" not in rows  # only the front end has it
        assert list(rows.values()) == sorted(rows.values(), reverse=True)


def test_a_bundle_of_a_runtime_without_a_profile_is_refused(
        tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(tiny)
    engine = replace(bundle, target=replace(bundle.target, backend="tensorrt"))
    monkeypatch.setattr(shares, "open_bundle", lambda path: engine)
    monkeypatch.setattr(sys, "argv", ["shares", str(tiny)])
    with pytest.raises(UsageError, match=r"is a bundle for tensorrt, .* for onnxruntime or openvino"):
        shares.main()
