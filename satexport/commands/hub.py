"""`satexport hub`: write a folder for the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from satexport.commands.console import ignore_closed_pipe, print_json
from satexport.commands.options import json_option
from satexport.errors import GateError
from satexport.terminal import note, say

if TYPE_CHECKING:
    from satexport.publish.folder import HubFolder
    from satexport.publish.parts import Part


@click.command("hub")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="BUNDLE...")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="DIR",
              help="Folder to write. One that this command wrote is replaced as a whole.")
@click.option("--license", "licence", metavar="SPDX",
              help="Licence of the weights, such as Apache-2.0. Default: that of the published checkpoint, "
                   "if the bundles were made from one; others are not guessed.")
@json_option
def hub_command(bundles: tuple[Path, ...], output: Path, licence: str | None, as_json: bool) -> None:
    """Write a folder for the Hugging Face Hub.

    It has the graphs in the layout of transformers.js, each with its weights in one file, the initial
    cache, labels, golden chunks, the reports, and a model card that is filled from them. The bundles must
    be for ONNX Runtime, of the same checkpoint, and one for each precision. Nothing is uploaded.
    docs/hub.md has the details.

    \b
    Examples:
      satexport hub build/sat-t-2s/onnx -o build/hub
      satexport hub build/sat-t-2s/onnx build/sat-t-2s/cpu-int8 -o build/hub --license MIT
    """
    from satexport.publish.folder import write_folder

    folder = write_folder(output, bundles, licence)
    with ignore_closed_pipe():
        if as_json:
            print_json(folder.to_json())
        else:
            for part in folder.parts:
                say(_describe(folder, part))
    for text in folder.notes():
        note(text)
    if folder.failures:
        raise GateError(f"{folder.failures}. {output} was written, and its model card says so.")
    note(f"Look at {output / 'README.md'}, then upload the folder: hf upload OWNER/REPO {output} "
         "(pip install huggingface_hub).")


def _describe(folder: HubFolder, part: Part) -> str:
    """A line about a graph."""
    size = folder.sizes[part.file] / 1e6
    verdict = "gates passed" if part.verdict == "passed" else part.verdict
    return (f"{folder.path / part.file}: {part.bundle.contract.variant} in {part.precision}, {size:.1f} MB, "
            f"from {part.bundle.path}; {verdict}")
