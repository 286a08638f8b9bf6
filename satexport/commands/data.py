"""`satexport data`: download a labelled set."""

from __future__ import annotations

from pathlib import Path

import click

from satexport.terminal import note, say


@click.command("data")
@click.argument("name", type=click.Choice(["esc50"]))
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR",
              help="Folder to put the set's own folder in. Default: the user's cache folder.")
def data_command(name: str, output: Path | None) -> None:
    """Download a labelled set for `satexport parity`.

    esc50: ESC-50, 2000 clips of 5 s, about 600 MB, not for commercial use.

    \b
    Examples:
      satexport data esc50
      satexport data esc50 --output .
    """
    from satexport.audio.esc50 import fetch_esc50
    from satexport.bundle.places import check_outside

    if output:
        check_outside(output / name)
    say(f"{name} is ready: satexport parity BUNDLE --data {fetch_esc50(output, note)}")
