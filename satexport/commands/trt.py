"""`satexport trt`: a build bundle for a Jetson, and on the board its engines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from satexport.commands.compile import Options, compile_options, note_engine, run_compile, target_option
from satexport.commands.console import print_json, reader_may_leave
from satexport.errors import UsageError

if TYPE_CHECKING:
    from satexport.bundle.target import Target

DEFAULT_TARGET, RTX_TARGET = "jetson-orin-nano", "rtx"


@click.command("trt")
@click.option("--int8", is_flag=True, help="Products in int8, the rest in fp16, beside a twin in fp16 alone: "
                                           "the board keeps the faster.")
@click.option("--fp16", is_flag=True, help="fp16 alone.")
@click.option("--rtx", is_flag=True, help="An engine for a desktop GPU (8.6, 8.9, 12.x) by TensorRT for RTX, "
                                          "which builds without one.")
@click.option("--build", "build", type=click.Path(path_type=Path), metavar="BUNDLE",
              help="On the board: build the engines of a bundle, prove and measure them, keep the faster.")
@click.option("--engine", is_flag=True, help="Build here, too, where this machine is the target's board.")
@target_option
@compile_options
def trt_command(int8: bool, fp16: bool, rtx: bool, build: Path | None, engine: bool, **options: Any) -> None:
    """Make a build bundle for a Jetson: the graphs as TensorRT takes them, checked against its rules and
    proven by ONNX Runtime, and what builds and proves the engines on the board. Without a precision the
    target decides.

    \b
    Examples:
      satexport trt --int8 --model sat-t --delay 2 --checkpoint demo
      satexport trt --fp16 --target jetson-agx-orin               the export in build/
      satexport trt --build build/sat-t-2s/jetson-orin-nano       on the board, as ./build.sh there
      satexport trt --rtx                                         for a desktop GPU
    """
    given = Options(**options)
    if int8 and fp16:
        raise UsageError("--int8 and --fp16: choose one.")
    if rtx and engine:
        raise UsageError("--rtx makes an engine by itself: leave --engine out.")
    if build:
        _check_alone()
        _build(build, given.as_json)
        return
    asked = "int8" if int8 else "fp16" if fp16 else None
    target = _target(given.target_name or (RTX_TARGET if rtx else DEFAULT_TARGET), asked, rtx)
    if engine and not rtx:
        from satexport.backends.tensorrt.build import this_board
        from satexport.pipeline.board import check_target

        check_target(target, this_board())  # what is not here is said before the work
    path = run_compile(target, given)
    if engine:
        _build(path, as_json=False, quiet=given.as_json)
    else:
        note_engine(path)


def _target(name: str, asked: str | None, rtx: bool) -> Target:
    """The target, in the precision that is asked for."""
    from satexport.backends.tensorrt.settings import RTX_MODULE, TensorRtSettings
    from satexport.targets import find_target

    target = find_target(name)
    if target.backend != "tensorrt":
        raise UsageError(f"target {target.name} is for {target.backend}; this command writes for tensorrt. "
                         f"Use `satexport bundle --target {name}`.")
    settings = TensorRtSettings.of(target)
    if rtx != (settings.module == RTX_MODULE):
        raise UsageError(f"target {target.name} is for {settings.module}: "
                         f"{'leave --rtx out' if rtx else 'add --rtx'}, or choose another target.")
    if asked == "fp16" and target.precision == "int8":
        return replace(target, name=f"{target.name}-fp16", precision="fp16", quantization=None,
                       gates=replace(target.gates, map_kept=settings.twin_map_kept))
    if asked and asked != target.precision:
        raise UsageError(f"target {target.name} wants {target.precision}, --{asked} asks for {asked}: leave "
                         "one of them out.")
    return target


def _check_alone() -> None:
    """Raise `UsageError` where the command line says more than --build and --json."""
    context = click.get_current_context()
    others = [name for name in context.params if name not in ("build", "as_json") and
              context.get_parameter_source(name) == ParameterSource.COMMANDLINE]
    if others:
        raise UsageError("--build takes a bundle that is made already: leave the other options out.")


def _build(path: Path, as_json: bool, quiet: bool = False) -> None:
    """Build the engines of a bundle; the reports in it say the same."""
    from satexport.backends.tensorrt.build import this_board
    from satexport.pipeline.board import build_bundle
    from satexport.report.blocks import describe
    from satexport.report.serialize import to_json
    from satexport.report.terminal import print_blocks

    report = build_bundle(path, this_board())
    with reader_may_leave():
        if as_json:
            print_json({"bundle": str(path)} | to_json(report))
        elif not quiet:
            print_blocks(describe(report))
