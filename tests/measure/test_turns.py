"""Measured bundles take turns."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from satexport.bundle.contract import GraphOptions
from satexport.bundle.folder import open_bundle
from satexport.measure import turns as measure_module
from satexport.measure.process import Process
from satexport.measure.turns import MeasureOptions, measure
from tests.machine import needs_memray, needs_proc
from tests.measure.measured import HIDDEN_OF_MLP, export_form
from tests.tiny import DEPTH

pytestmark = [needs_memray, pytest.mark.usefixtures("whole_turns")]


def test_bundles_take_turns_and_bundles_of_the_same_name_are_named_by_path(
        few_turns: None, tiny: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns, ask = [], Process.ask

    def listening(process: Process, do: str, **arguments: Any) -> Any:
        if do == "run":
            turns.append((process.name, arguments["pause"]))
        return ask(process, do, **arguments)

    monkeypatch.setattr(Process, "ask", listening)
    options = MeasureOptions(steps=1, pause=0.02, eager=False)
    report = measure([open_bundle(tiny), open_bundle(bundle)], options)
    a, b = str(tiny), str(bundle)
    assert [entry.name for entry in report.bundles] == [a, b]
    assert turns == 3 * [(a, 0), (b, 0)] + 2 * [(a, 0.02), (b, 0.02)]


def test_a_bundle_with_a_hidden_cache_and_mel_input_is_measured(few_turns: None, tmp_path: Path) -> None:
    bundle = open_bundle(export_form(tmp_path, GraphOptions(cache="hidden", input="mel")))
    (entry,) = measure([bundle], MeasureOptions(steps=1, pause=0.01, eager=False)).bundles
    assert entry.memory_bytes.state == DEPTH * 48 * 48 * 4
    assert HIDDEN_OF_MLP < (entry.memory_bytes.transient or 0) < 4e6
    assert entry.operations
    assert entry.operations["front_end"] == 0


@needs_proc
def test_the_chosen_number_of_threads_is_used(few_turns: None, tiny: Path) -> None:
    options = MeasureOptions(threads=1, steps=1, pause=0.01, eager=False)
    seen = []

    class Counted(Process):
        def ask(self, do: str, **arguments: Any) -> Any:
            reply = super().ask(do, **arguments)
            if do == "resident":
                seen.append(len(os.listdir(f"/proc/{self._process.pid}/task")))
            return reply

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure_module, "Process", Counted)
        for threads in (1, 3):
            (entry,) = measure([open_bundle(tiny)], replace(options, threads=threads)).bundles
            assert entry.threads == threads
    assert seen[1] - seen[0] == 2
