"""`satexport bundle`: make a bundle for any target."""

from __future__ import annotations

from typing import Any

import click

from satexport.commands.compile import SharedOptions, compile_options, note_engine, run_compile
from satexport.commands.options import cache_dtype_option


@click.command("bundle")
@click.option("--target", "target_name", required=True, metavar="NAME|FILE.toml",
              help="A target that `satexport targets` lists, or a TOML file of your own.")
@cache_dtype_option
@compile_options
def bundle_command(target_name: str, **options: Any) -> None:
    """Make a bundle for any target, prove it and measure it.

    The bundle is proven against PyTorch and measured as far as it runs on this machine. `satexport targets`
    lists the targets; cpu, openvino and trt are shortcuts for some of them.

    \b
    Examples:
      satexport bundle --target cpu-int8 --model sat-t --delay 2 --checkpoint demo
      satexport bundle --target openvino-n100                     from the export in build/
      satexport bundle --target jetson-thor --from build/sat-b-2s/onnx
      satexport bundle --target my-board.toml --calibration esc50 --data ESC-50
    """
    from satexport.targets import find_target

    note_engine(run_compile(find_target(target_name), SharedOptions(target_name=target_name, **options)))
