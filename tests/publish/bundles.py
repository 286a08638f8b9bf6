"""Bundles for a folder for the Hub, and what is in one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from satexport.bundle.folder import open_bundle
from satexport.files import write_json
from satexport.graph.files import write_with_weights
from satexport.report.records import Report
from satexport.report.serialize import to_json
from satexport.targets import find_target
from tests.bundle.copies import GRAPH, change_bundle, copy_of, reseal
from tests.commands.calls import call
from tests.report.records import measure_entry, measure_report, parity_report

yaml = pytest.importorskip("yaml", reason="needs PyYAML, of the group dev")


def with_target(bundle: Path, folder: Path, target: str) -> Path:
    """A copy whose target is another one; its graph is as it was."""
    def change(manifest: dict[str, Any]) -> None:
        manifest["target"] = find_target(target).to_dict()

    return change_bundle(copy_of(bundle, folder / target), change)


def with_weights_apart(bundle: Path) -> Path:
    """The bundle, changed so that its graph has its weights in another file."""
    write_with_weights(bundle, onnx.load(bundle / GRAPH))
    assert (bundle / f"{GRAPH}.data").is_file()
    reseal(bundle)
    return bundle


def trained(bundle: Path, folder: Path, **origin: str) -> Path:
    """A copy whose contract says that its weights come from a file."""
    def change(manifest: dict[str, Any]) -> None:
        manifest["contract"]["checkpoint"].update({"source": "file", "name": "mine.pt"} | origin)

    return change_bundle(copy_of(bundle, folder / "trained"), change)


def with_reports(bundle: Path, **changes: object) -> Path:
    """The bundle with a report of its proof and of its measurement; `changes` are fields of the former."""
    sha256 = open_bundle(bundle).sha256
    entry = measure_entry(bundle="/home/me/build/sat-t-2s/onnx", bundle_sha256=sha256)
    put_report(bundle, "measure.json", replace(measure_report(), bundles=(entry,)))
    fields: dict[str, Any] = {"bundle_sha256": sha256, "embeddings": None, **changes}
    put_report(bundle, "parity.json", replace(parity_report(), **fields))
    return bundle


def put_report(bundle: Path, name: str, report: Report) -> None:
    write_json(bundle / "reports" / name, to_json(report))


def refused(*arguments: object, code: int = 2) -> str:
    """Run the command, which must fail and print nothing, and return its message."""
    result = call("hub", *arguments)
    assert (result.code, result.out) == (code, ""), result.err
    return result.err


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    """The head of a model card, and its text."""
    _, head, text = (folder / "README.md").read_text("utf-8").split("---\n", 2)
    return yaml.safe_load(head), text


def program_of(folder: Path, language: str) -> str:
    """The program in a model card."""
    match = re.search(rf"(?s)```{language}\n(.*?)```", card_of(folder)[1])
    assert match
    return match[1]
