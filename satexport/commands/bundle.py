"""`satexport bundle`: a bundle for any target."""

from __future__ import annotations

from typing import Any

import click

from satexport.commands.compile import Options, compile_options, note_engine, run_compile
from satexport.commands.options import cache_dtype_option


@click.command("bundle")
@click.option("--target", "target_name", required=True, metavar="NAME|FILE.toml",
              help="One of those that `satexport targets` lists, or one of your own.")
@cache_dtype_option
@compile_options
def bundle_command(target_name: str, **options: Any) -> None:
    """Make the bundle of a target, whichever runtime it is for, prove it and measure it as far as it runs
    here. `satexport targets` lists the targets; cpu, openvino and trt are short ways to some of them.

    \b
    Examples:
      satexport bundle --target cpu-int8 --model sat-t --delay 2 --checkpoint demo
      satexport bundle --target openvino-n100                     the export in build/
      satexport bundle --target jetson-thor --from build/sat-b-2s/onnx
      satexport bundle --target my-board.toml --calibration esc50 --data ESC-50
    """
    from satexport.targets import find_target

    note_engine(run_compile(find_target(target_name), Options(target_name=target_name, **options)))
