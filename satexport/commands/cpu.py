"""`satexport cpu`: a bundle for ONNX Runtime on a CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from satexport.commands.compile import Options, compile_options, find_for, run_compile, target_option
from satexport.commands.options import cache_dtype_option
from satexport.errors import UsageError

if TYPE_CHECKING:
    from satexport.bundle.target import Target

TARGETS = {"fp32": "cpu-fp32", "int8": "cpu-int8"}


@click.command("cpu")
@click.option("--fp32", is_flag=True, help="Do not quantise.")
@click.option("--int8", is_flag=False, flag_value="target", metavar="[static|dynamic]",
              type=click.Choice(["target", "static", "dynamic"]),
              help="static: ranges from a calibration; dynamic: anew at every step. Default: the target's.")
@cache_dtype_option
@target_option
@compile_options
def cpu_command(fp32: bool, int8: str | None, **options: Any) -> None:
    """Make a bundle for ONNX Runtime on a CPU, prove the very file and measure it: int8 from calibrated
    ranges, or fp32. Without either the target decides; without a target it is int8.

    \b
    Examples:
      satexport cpu --int8 --model sat-t --delay 2 --checkpoint demo
      satexport cpu --int8 --calibration esc50 --data ESC-50      the export in build/
      satexport cpu --int8 --sensitivity --leave-out auto
      satexport cpu --int8 dynamic --from build/sat-b-2s/onnx
    """
    if fp32 and int8:
        raise UsageError("--fp32 and --int8: choose one.")
    asked = "fp32" if fp32 else "int8" if int8 else None
    given = Options(**options)
    target = find_for("onnxruntime", given.target_name, asked, TARGETS, "int8")
    run_compile(_with_method(target, int8), given)


def _with_method(target: Target, method: str | None) -> Target:
    """The target with another method in its name, where the command line asks for another."""
    if not target.quantization or method in (None, "target", target.quantization.method):
        return target
    return replace(target, name=f"{target.name}-{method}",
                   quantization=replace(target.quantization, method=str(method)))
