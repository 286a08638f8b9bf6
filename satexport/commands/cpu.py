"""`satexport cpu`: make a bundle for ONNX Runtime on a CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from satexport.commands.compile import (
    SharedOptions,
    choose_target,
    compile_options,
    run_compile,
    target_option,
)
from satexport.commands.options import cache_dtype_option
from satexport.errors import UsageError

if TYPE_CHECKING:
    from satexport.bundle.target import Target

TARGETS = {"fp32": "cpu-fp32", "int8": "cpu-int8"}


@click.command("cpu")
@click.option("--fp32", is_flag=True, help="Do not quantise.")
@click.option("--int8", is_flag=False, flag_value="target", metavar="[static|dynamic]",
              type=click.Choice(["target", "static", "dynamic"]),
              help="Quantise to int8. static: ranges from a calibration set; dynamic: ranges computed at "
                   "every step. Default: the target's.")
@cache_dtype_option
@target_option
@compile_options
def cpu_command(fp32: bool, int8: str | None, **options: Any) -> None:
    """Make a CPU bundle for ONNX Runtime, prove it and measure it.

    The file that ships is proven against PyTorch. It is int8 or fp32; the default is the target's precision,
    and int8 without a target.

    \b
    Examples:
      satexport cpu --int8 --model sat-t --delay 2 --checkpoint demo
      satexport cpu --int8 --calibration esc50 --data ESC-50      from the export in build/
      satexport cpu --int8 --sensitivity --leave-out auto
      satexport cpu --int8 dynamic --from build/sat-b-2s/onnx
    """
    if fp32 and int8:
        raise UsageError("--fp32 and --int8: choose one.")
    precision = "fp32" if fp32 else "int8" if int8 else None
    shared = SharedOptions(**options)
    target = choose_target("onnxruntime", shared.target_name, precision, TARGETS, "int8")
    run_compile(_apply_method(target, int8), shared)


def _apply_method(target: Target, method: str | None) -> Target:
    """Return the target with the method of --int8; a method that is not its own is appended to its name."""
    if not target.quantization or method in (None, "target", target.quantization.method):
        return target
    return replace(target, name=f"{target.name}-{method}",
                   quantization=replace(target.quantization, method=str(method)))
