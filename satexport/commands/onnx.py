"""`satexport onnx`: export a checkpoint to a bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from satexport.commands.console import ignore_closed_pipe, print_json
from satexport.commands.options import WholeNumber, embedding_option, json_option, parse_streams
from satexport.errors import UsageError, requires_extra
from satexport.terminal import note, say

if TYPE_CHECKING:
    from satexport.bundle.target import Target
    from satexport.models.family import Variant


@click.command("onnx")
@click.option("--model", metavar="NAME",
              help="A model that `satexport models` lists, such as sat-t. Default: the one that the shapes "
                   "in the checkpoint match.")
@click.option("--delay", type=int, metavar="SECONDS",
              help="Length of a chunk, one that `satexport models` lists; with --window, from 1 to that. "
                   "Default: the one that the shapes in the checkpoint match, else 2; with --window 1.")
@click.option("--window", type=int, metavar="SECONDS",
              help="Length of audio that each step takes: a chunk and what came before it. Only for a model "
                   "without a cache, one of its delays. Default: only the chunk.")
@click.option("--checkpoint", default="published", show_default=True,
              metavar="FILE|hub:OWNER/REPO|published[:FILE]|demo|random",
              help="A .pt or .safetensors file; hub:OWNER/REPO[/FILE][@REVISION]: one on the Hugging Face "
                   "Hub; published: the public one, fetched once (published:FILE: another one of the "
                   "model's); demo: the small trained sat-t at 2 s in this package; random: seeded "
                   "weights, to size a device.")
@click.option("--labels", type=click.Path(path_type=Path), metavar="FILE",
              help="Names of the classes, one per line. Default: AudioSet's 527.")
@click.option("--target", "target_name", default="onnx", show_default=True, metavar="NAME|FILE.toml",
              help="Target for ONNX Runtime in fp32, whose gates the export must pass.")
@click.option("--opset", type=WholeNumber(17, 23), default=20, show_default=True,
              help="ONNX opset of the graph.")
@click.option("--cache", type=click.Choice(["kv", "hidden"]), default="kv", show_default=True,
              help="What the cache stores. kv: keys and values; hidden: hidden tokens, as published, which "
                   "halves the state.")
@click.option("--input", "input_form", type=click.Choice(["audio", "mel"]), default="audio",
              show_default=True,
              help="Input of the graph. audio: the graph contains the front end; mel: the device computes "
                   "the mel features.")
@click.option("--streams", default="1", show_default=True, metavar="N|dynamic",
              help="Number of microphones that one step serves, each with its own cache.")
@embedding_option("Add an embedding of each chunk as a second output. `satexport models` lists the kinds; "
                  "without KIND, the model's first. Default: none.")
@click.option("--simplify/--no-simplify", default=True, show_default=True,
              help="Try onnxsim, and keep its graph if the scores are equal and it is smaller.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("build"), show_default=True,
              metavar="DIR", help="Folder for the bundles.")
@json_option
def onnx_command(model: str | None, delay: int | None, window: int | None, checkpoint: str,
                 labels: Path | None, target_name: str, opset: int, cache: str, input_form: str, streams: str,
                 embedding: str | None, simplify: bool, output: Path, as_json: bool) -> None:
    """Export a checkpoint to a bundle.

    The bundle has an ONNX graph with the cache as inputs and outputs, proven against PyTorch.

    \b
    Examples:
      satexport onnx --model sat-b --delay 2
      satexport onnx --model sat-s --delay 1 --checkpoint mine.safetensors --labels mine.txt
      satexport onnx --checkpoint mine.pt                     finds the model by the shapes
      satexport onnx --checkpoint hub:mispeech/ced-tiny       from the Hugging Face Hub
      satexport onnx --model vit-t --delay 10 --checkpoint random --output /tmp/sizing
      satexport onnx --model vit-b --window 10 --delay 1      the last 10 s, scored every second
      satexport onnx --model sat-b --delay 2 --streams 8      eight microphones in one step
      satexport onnx --model mn10 --embedding mb+l            an embedding next to the scores
    """
    from satexport.bundle.contract import GraphOptions
    from satexport.models.families import check_options, choose_embedding
    from satexport.report.blocks import describe
    from satexport.report.serialize import to_json
    from satexport.report.terminal import print_blocks

    target = _find_target(target_name)
    options = GraphOptions(cache=cache, input=input_form, streams=parse_streams(streams))
    variant = _find_variant(model, delay, window, checkpoint)
    options = replace(options, embedding=choose_embedding(variant, embedding))
    check_options(variant, options)
    with requires_extra("export"):
        from satexport.models.checkpoint import load_checkpoint
        from satexport.pipeline.export import export_onnx
        from satexport.progress import progress

        with progress("load the checkpoint", None):
            loaded = load_checkpoint(checkpoint, variant, labels)
        export = export_onnx(loaded, target, output, options, opset, simplify)
    with ignore_closed_pipe():
        if as_json:
            print_json({"bundle": str(export.path), **to_json(export.report)})
        else:
            print_blocks(describe(export.report))
            say(f"Bundle: {export.path}")
    note(export.report.warning)
    if export.report.caution:
        note(f"{checkpoint}: {export.report.caution}")


def _find_target(name: str) -> Target:
    """Return the target with this name or in this file. Raises `UsageError` if it is not for ONNX Runtime in
    fp32."""
    from satexport.targets import find_target

    target = find_target(name)
    if (target.backend, target.precision) != ("onnxruntime", "fp32"):
        raise UsageError(f"target {target.name} is {target.precision} for {target.backend}; this command "
                         "writes fp32 for onnxruntime. Leave --target out, then run `satexport bundle "
                         f"--target {name}`.")
    return target


def _find_variant(model: str | None, delay: int | None, window: int | None, checkpoint: str) -> Variant:
    """Return the variant of this name, or without a name the one that the checkpoint matches. Raises
    `UsageError` if there is neither a name nor a file."""
    from satexport.models.families import find_variant

    if model:
        return find_variant(model, delay, window)
    with requires_extra("export"):
        from satexport.models.checkpoint import WORDS, is_published, models_of_published, recognize_variant

        if checkpoint in WORDS or is_published(checkpoint):
            model = next(iter(models_of_published(checkpoint)), "NAME")
            raise UsageError(f"--checkpoint {checkpoint} does not name a model: add --model {model} "
                             "(`satexport models` lists them), or pass a file or hub:OWNER/REPO.")
        return recognize_variant(checkpoint, delay, window)
