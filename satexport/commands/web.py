"""`satexport web`: make a bundle for browsers, or serve one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from satexport.commands.compile import (
    SharedOptions,
    choose_target,
    compile_options,
    run_compile,
    target_option,
)
from satexport.errors import DataError, UsageError
from satexport.terminal import note

TARGETS = {"fp32": "web-fp32", "int8": "web-int8"}
PORT = 8000


@click.command("web")
@click.option("--fp32", is_flag=True, help="Do not quantise.")
@click.option("--int8", is_flag=True, help="Quantise to int8.")
@click.option("--serve", "served", type=click.Path(path_type=Path), metavar="BUNDLE",
              help="Serve a bundle on this machine's own address, so that a browser can show its page, until "
                   "Ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True,
              help="With --serve: the port; 0 is any free one.")
@target_option
@compile_options
@click.pass_context
def web_command(context: click.Context, /, fp32: bool, int8: bool, served: Path | None, port: int,
                **options: Any) -> None:
    """Make a bundle for browsers, prove it in headless Chromium and measure it there.

    The bundle is a folder of static files for any web server: a page that listens to the microphone or to a
    dropped file, the JavaScript module that it is built on, the graph and ONNX Runtime Web. The default is
    the target's precision, and int8 without a target. docs/web.md has the details.

    \b
    Examples:
      satexport web --model sat-t --delay 2 --checkpoint demo
      satexport web --serve build/sat-t-2s/web-int8
      satexport web --fp32 --from build/sat-b-2s/onnx
    """
    if served:
        others = [name for name in context.params if name not in ("served", "port")
                  and context.get_parameter_source(name) is not ParameterSource.DEFAULT]
        if others:
            found = next(option.opts[0] for option in context.command.params if option.name == others[0])
            raise UsageError(f"--serve takes a bundle that exists and only --port beside it; found {found}. "
                             "Make the bundle first.")
        _serve(served, port)
        return
    if context.get_parameter_source("port") is not ParameterSource.DEFAULT:
        raise UsageError("--port applies only to --serve: leave it out, or add --serve BUNDLE.")
    if fp32 and int8:
        raise UsageError("--fp32 and --int8: choose one.")
    shared = SharedOptions(**options)
    precision = "fp32" if fp32 else "int8" if int8 else None
    path = run_compile(choose_target("web", shared.target_name, precision, TARGETS, "int8"), shared)
    note(f"See the page: satexport web --serve {path}")


def _serve(bundle: Path, port: int) -> None:
    """Serve a bundle until Ctrl-C. Raises `DataError` if it has no page."""
    import time
    from contextlib import suppress

    from satexport.backends.web.server import serve_folder
    from satexport.bundle.folder import open_bundle

    opened = open_bundle(bundle)
    if opened.target.backend != "web":
        raise DataError(f"{bundle} is for {opened.target.backend} and has no page; expected a bundle that "
                        "`satexport web` makes.")
    with serve_folder(opened.path, port) as address:
        note(f"{opened.contract.variant} / {opened.target.name}: {address}/   Ctrl-C ends it.")
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)
