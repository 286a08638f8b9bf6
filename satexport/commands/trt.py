"""`satexport trt`: make a build bundle for a Jetson, and build its engines on the board."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from satexport.commands.compile import (
    SharedOptions,
    compile_options,
    note_engine,
    run_compile,
    target_option,
)
from satexport.commands.console import ignore_closed_pipe, print_json
from satexport.errors import UsageError

if TYPE_CHECKING:
    from satexport.bundle.target import Target

DEFAULT_TARGET, RTX_TARGET = "jetson-orin-nano", "rtx"


@click.command("trt")
@click.option("--int8", is_flag=True,
              help="Make a graph with matrix products in int8 and the rest in fp16, and one in fp16 only: "
                   "the board keeps the faster engine.")
@click.option("--fp16", is_flag=True, help="Make only a graph in fp16.")
@click.option("--rtx", is_flag=True,
              help="Make an engine for a desktop GPU (compute capability 8.6, 8.9, 12.x) with TensorRT for "
                   "RTX, which builds it without a GPU.")
@click.option("--build", "build", type=click.Path(path_type=Path), metavar="BUNDLE",
              help="On the board: build the engines of this bundle, prove and measure them, and keep the "
                   "fastest that passes.")
@click.option("--engine", is_flag=True,
              help="Also build the engines here, if this machine is the target's board.")
@target_option
@compile_options
def trt_command(int8: bool, fp16: bool, rtx: bool, build: Path | None, engine: bool, **options: Any) -> None:
    """Make a build bundle for a Jetson, or build its engines there.

    A build bundle has graphs that meet TensorRT's rules and are proven in ONNX Runtime, and the program that
    builds and proves their engines on the board. The default precision is the target's.

    \b
    Examples:
      satexport trt --int8 --model sat-t --delay 2 --checkpoint demo
      satexport trt --fp16 --target jetson-agx-orin               from the export in build/
      satexport trt --build build/sat-t-2s/jetson-orin-nano       on the board; ./build.sh does the same
      satexport trt --rtx                                         for a desktop GPU
    """
    shared = SharedOptions(**options)
    if int8 and fp16:
        raise UsageError("--int8 and --fp16: choose one.")
    if rtx and engine:
        raise UsageError("--rtx always makes an engine: leave --engine out.")
    if build:
        _check_only_build()
        _build_engines(build, shared.as_json)
        return
    precision = "int8" if int8 else "fp16" if fp16 else None
    target = _choose_target(shared.target_name or (RTX_TARGET if rtx else DEFAULT_TARGET), precision, rtx)
    if engine and not rtx:
        from satexport.backends.tensorrt.build import this_board
        from satexport.pipeline.board import check_target

        check_target(target, this_board())  # fail before the work if this is another board
    path = run_compile(target, shared)
    if engine:
        _build_engines(path, as_json=False, quiet=shared.as_json)
    else:
        note_engine(path)


def _choose_target(name: str, precision: str | None, rtx: bool) -> Target:
    """Return the target, in fp16 if that is the precision and the target is int8. Raises `UsageError` if it
    has another precision or is for another runtime."""
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
    if precision == "fp16" and target.precision == "int8":
        return replace(target, name=f"{target.name}-fp16", precision="fp16", quantization=None,
                       gates=replace(target.gates, map_kept=settings.twin_map_kept))
    if precision and precision != target.precision:
        raise UsageError(f"target {target.name} is {target.precision}, --{precision} asks for {precision}: "
                         "leave one of them out.")
    return target


def _check_only_build() -> None:
    """Raise `UsageError` if the command line has other options than --build and --json."""
    context = click.get_current_context()
    others = [name for name in context.params if name not in ("build", "as_json") and
              context.get_parameter_source(name) == ParameterSource.COMMANDLINE]
    if others:
        raise UsageError("--build uses a finished bundle, whose options are fixed: leave out all options but "
                         "--json.")


def _build_engines(path: Path, as_json: bool, quiet: bool = False) -> None:
    """Build the engines of a bundle and print the report, which also goes into the bundle."""
    from satexport.backends.tensorrt.build import this_board
    from satexport.pipeline.board import build_bundle
    from satexport.report.blocks import describe
    from satexport.report.serialize import to_json
    from satexport.report.terminal import print_blocks

    report = build_bundle(path, this_board())
    with ignore_closed_pipe():
        if as_json:
            print_json({"bundle": str(path)} | to_json(report))
        elif not quiet:
            print_blocks(describe(report))
