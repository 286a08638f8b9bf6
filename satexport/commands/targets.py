"""`satexport targets`: list the devices that satexport knows."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from satexport.commands.console import ignore_closed_pipe, print_json
from satexport.commands.options import json_option

if TYPE_CHECKING:
    from satexport.bundle.target import Target
    from satexport.report.table import Cell

UNITS = {"ms": "ms", "mb": "MB"}
COLUMNS = ("target", "backend", "precision", "threads", "gates", "budgets", "description")


@click.command("targets")
@json_option
def targets_command(as_json: bool) -> None:
    """List the targets with their devices, gates and budgets.

    \b
    Examples:
      satexport targets
      satexport targets --json
    """
    from satexport.report.table import Table
    from satexport.report.terminal import print_table
    from satexport.targets import shipped

    targets = shipped()
    with ignore_closed_pipe():
        if as_json:
            print_json({"targets": [target.to_dict() for target in targets]})
        else:
            print_table(Table(title="targets", head=COLUMNS, rows=[_row(target) for target in targets]))
            click.echo("To use a target of your own, pass --target FILE.toml (docs/targets.md).")


def _row(target: Target) -> list[Cell]:
    """Return the cells of a target, with a line for each gate and budget."""
    gates, limits = target.gates, []
    for key, value in asdict(target.budgets).items():  # each key ends with its unit
        if value is not None:
            name, _, unit = key.rpartition("_")
            limits.append(f"{name} {value:g} {UNITS[unit]}")
    return [target.name, target.backend, target.precision,
            "-" if target.threads is None else f"{target.threads}",
            (f"scores within {gates.max_score_difference:g}",
             *(f"{family} {limit:g}" for family, limit in gates.max_score_difference_of.items()),
             f"mAP kept {gates.map_kept:g}"),
            tuple(limits) or "none", target.description]
