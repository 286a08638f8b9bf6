"""`satexport triton`: write a model repository for Triton."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from satexport.commands.console import ignore_closed_pipe, print_json
from satexport.commands.options import json_option
from satexport.terminal import note, say

if TYPE_CHECKING:
    from satexport.triton.repository import ServedModel


@click.command("triton")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="BUNDLE...")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="REPOSITORY",
              help="Folder of the model repository. It keeps the other models that are in it.")
@click.option("--serving", metavar="NAME|FILE.toml",
              help="Sizes: batches, microphones, waits, instances. Default: triton-cpu for ONNX Runtime, "
                   "triton-gpu for TensorRT.")
@click.option("--name", metavar="NAME",
              help="With one bundle: name of the model in the server. Default: the variant's.")
@json_option
def triton_command(bundles: tuple[Path, ...], output: Path, serving: str | None, name: str | None,
                   as_json: bool) -> None:
    """Write a model repository for NVIDIA's Triton Inference Server.

    The server keeps the cache of every microphone, begins each with the cache after silence, and batches
    their steps. It takes bundles for ONNX Runtime that were made with --streams dynamic, and bundles for
    TensorRT whose engine was built on the server. docs/serving.md has the details.

    \b
    Examples:
      satexport triton build/sat-t-2s/cpu-int8-dynamic -o build/triton
      satexport triton build/sat-t-2s/onnx-dynamic -o build/triton --serving triton-gpu --name sat-t-2s-gpu
      satexport triton build/sat-t-2s/onnx-dynamic -o build/triton --serving my-server.toml
    """
    from satexport.triton.repository import write_repository

    models = write_repository(output, bundles, serving, name)
    with ignore_closed_pipe():
        if as_json:
            print_json({"repository": str(output), "models": [model.to_json() for model in models]})
        else:
            for model in models:
                say(_describe(model))
    note(f"Start the server: tritonserver --model-repository={output.absolute()}")


def _describe(model: ServedModel) -> str:
    """A line about a model."""
    contract, size = model.bundle.contract, model.max_batch_size
    state = (f"{len(contract.cache_in)} states, in two copies {2 * model.state_bytes / 1e6:.2f} MB for each "
             "microphone"
             if contract.cache_in else "no state")
    batch = f"steps of 1 to {size} microphones" if size > 1 else "steps of one microphone"
    return (f"{model.path}: {contract.variant} / {model.bundle.target.name}, {model.serving.name}; {batch}; "
            f"{state}")
