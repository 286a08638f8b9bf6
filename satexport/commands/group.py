"""The group of all commands, and how each of them ends. Each command imports the heavy packages that it
needs when it runs."""

from __future__ import annotations

import io
import os
import signal
import sys

import click

from satexport.commands.bundle import bundle_command
from satexport.commands.console import ignore_closed_pipe, is_output_broken
from satexport.commands.cpu import cpu_command
from satexport.commands.data import data_command
from satexport.commands.hub import hub_command
from satexport.commands.matrix import matrix_command
from satexport.commands.measure import measure_command
from satexport.commands.models import models_command
from satexport.commands.onnx import onnx_command
from satexport.commands.openvino import openvino_command
from satexport.commands.paper import paper_command
from satexport.commands.parity import parity_command
from satexport.commands.report import report_command
from satexport.commands.run import run_command
from satexport.commands.tag import tag_command
from satexport.commands.targets import targets_command
from satexport.commands.thresholds import thresholds_command
from satexport.commands.triton import triton_command
from satexport.commands.trt import trt_command
from satexport.commands.web import web_command
from satexport.errors import RunError, SatexportError, UsageError
from satexport.process import open_standard_streams
from satexport.terminal import note, printable
from satexport.version import __version__

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=CONTEXT)
@click.version_option(__version__)
def cli() -> None:
    """Turn the checkpoint of a streaming audio tagger into something a device can run and you can trust.

    \b
    checkpoint -> model -> fold -> graph -> simplify -> calibrate -> quantize -> compile -> stream
      -> parity -> measure -> report

    \b
    Examples:
      satexport models                                              what can be exported
      satexport targets                                             the devices it can be exported for
      satexport onnx --model sat-t --delay 2 --checkpoint demo
      satexport bundle --target cpu-int8                            a bundle for any target; or, for short,
      satexport cpu --int8
      satexport openvino --int8
      satexport trt --int8
      satexport web --int8
      satexport parity build/sat-t-2s/onnx
      satexport measure build/sat-t-2s/onnx
      satexport matrix examples/ci/matrix.toml                      many bundles, one report
      satexport report build/sat-t-2s/onnx
      satexport paper table2                                        a paper's figures and ours
      satexport run build/sat-t-2s/onnx dog.wav
      satexport tag build/sat-t-2s/onnx my-recordings/ -o tags/
      satexport thresholds build/sat-t-2s/onnx --data ESC-50
      satexport triton build/sat-t-2s/onnx-dynamic -o build/triton
      satexport hub build/sat-t-2s/onnx -o build/hub

    \b
    Exit codes: 0 success, 1 a gate failed, 2 wrong use, 3 something is not installed,
    4 bad input, 5 the run failed, 130 interrupted.
    """


for command in (onnx_command, bundle_command, cpu_command, openvino_command, trt_command, web_command,
                parity_command, measure_command, matrix_command, report_command, paper_command, run_command,
                tag_command, thresholds_command, triton_command, hub_command, models_command, targets_command,
                data_command):
    cli.add_command(command)


def run() -> int:
    """Run the command line and return its exit code. The caller handles `KeyboardInterrupt`."""
    open_standard_streams()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that staged folders are removed
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names and labels may be in any encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if "" in sys.argv[1:]:  # click would use the current folder
            raise UsageError("an argument is empty; expected a value. Check for an unset shell variable.")
        return _call()
    except SatexportError as error:
        note(f"Error: {error.message}", *error.lines)
        return error.exit_code
    except click.ClickException as error:
        text = io.StringIO()
        error.message = printable(error.message)  # type: ignore[misc]  # click adds lines around it
        error.show(text)
        click.echo("\n".join(map(printable, text.getvalue().split("\n"))), err=True, nl=False)
        return error.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:  # a bug in satexport
        if os.environ.get("SATEXPORT_TRACEBACK"):
            raise
        note(f"Error: {type(error).__name__}: {error}. If this looks like a bug in satexport, "
             "set SATEXPORT_TRACEBACK=1 and report what it prints.")
        return RunError.exit_code


def _call() -> int:
    try:
        return cli.main(standalone_mode=False) or 0
    except OSError as error:
        if not is_output_broken():
            raise
        with ignore_closed_pipe():  # click itself was printing help
            raise error
        return 0
