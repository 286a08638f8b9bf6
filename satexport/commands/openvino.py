"""`satexport openvino`: make a bundle for OpenVINO."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from satexport.commands.compile import (
    SharedOptions,
    choose_target,
    compile_options,
    run_compile,
    target_option,
)
from satexport.errors import UsageError

TARGETS = {name: f"openvino-{name}" for name in ("fp32", "bf16", "int8")}


@click.command("openvino")
@click.option("--fp32", is_flag=True, help="Compute in fp32.")
@click.option("--bf16", is_flag=True, help="Compute in bf16, the front end in fp32.")
@click.option("--int8", is_flag=True,
              help="Compute matrix products in int8, the rest in bf16 if the CPU supports it, else in fp32; "
                   "the front end in fp32.")
@click.option("--explicit-cache", is_flag=True,
              help="Keep the cache as inputs and outputs of the graph. By default the inference request "
                   "keeps it as its state.")
@click.option("--compress", type=click.Choice(["fp16", "fp32"]),
              help="Data type for storing the weights that are not int8. Default: the target's.")
@target_option
@compile_options
def openvino_command(fp32: bool, bf16: bool, int8: bool, explicit_cache: bool, compress: str | None,
                     **options: Any) -> None:
    """Make a bundle for OpenVINO, prove it and measure it.

    The file that ships is proven against PyTorch. The default is the target's precision, and int8 without a
    target.

    \b
    Examples:
      satexport openvino --int8 --model sat-t --delay 2 --checkpoint demo
      satexport openvino --bf16                                   from the export in build/
      satexport openvino --int8 --calibration esc50 --data ESC-50
      satexport openvino --fp32 --explicit-cache --from build/sat-b-2s/onnx
    """
    from satexport.backends.openvino.settings import OpenVinoSettings

    precisions = [name for name, is_set in (("fp32", fp32), ("bf16", bf16), ("int8", int8)) if is_set]
    if len(precisions) > 1:
        raise UsageError(f"--{precisions[0]} and --{precisions[1]}: choose one.")
    shared = SharedOptions(**options)
    target = choose_target("openvino", shared.target_name, precisions[0] if precisions else None, TARGETS,
                           "int8")
    settings, name = OpenVinoSettings.of(target), target.name
    changes: dict[str, Any] = {}
    if explicit_cache and settings.stateful:
        changes["stateful"], name = False, f"{name}-explicit"
    if compress and compress != settings.weights:
        changes["weights"], name = compress, f"{name}-{compress}-weights"
    run_compile(replace(target, name=name, options={**target.options, **changes}), shared)
