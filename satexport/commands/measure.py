"""`satexport measure`: measure the memory and speed of bundles."""

from __future__ import annotations

from pathlib import Path

import click

from satexport.commands.console import finish_report
from satexport.commands.options import (
    LIVE,
    Seconds,
    WholeNumber,
    json_option,
    spinning_option,
    threads_option,
)
from satexport.measure.schedule import PAUSE, PAUSED_STEPS, PAUSED_TURNS, STEPS, TURNS
from satexport.terminal import note


@click.command("measure")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="BUNDLE...")
@click.option("--eager/--no-eager", default=True, show_default=True,
              help="Also measure PyTorch eager, in turns with the bundles.")
@click.option("--checkpoint", metavar="FILE|hub:OWNER/REPO",
              help="The weights, if this machine does not find them by their SHA-256.")
@click.option("--streams", type=WholeNumber(1), metavar="N",
              help="Number of streams, for a bundle exported with --streams dynamic.")
@click.option("--steps", type=WholeNumber(2, 10_000), default=STEPS, show_default=True,
              help=f"Largest number of steps in each of {TURNS} bursts. Then come {PAUSED_TURNS} turns of at "
                   f"most {PAUSED_STEPS} steps, each step after a pause.")
@click.option("--pause", type=Seconds(0.01, 60), default=PAUSE, show_default=True, metavar="SECONDS",
              help="Pause before each step that is timed as in a live stream.")
@click.option("--report", "folder", type=click.Path(path_type=Path), metavar="DIR",
              help="Folder for measure.json and measure.png. Default: the bundle's reports/; for several "
                   "bundles build/measure, and a measure.json of its own in each bundle's reports/.")
@threads_option(LIVE)
@spinning_option
@json_option
def measure_command(bundles: tuple[Path, ...], eager: bool, checkpoint: str | None, streams: int | None,
                    steps: int, pause: float, folder: Path | None, threads: int | None,
                    spinning: bool, as_json: bool) -> None:
    """Measure the memory and speed of bundles.

    Reports operations, memory by kind, latency in bursts and after pauses, and the CPU time of a live stream.
    Bundles are loaded as `satexport run` loads them, unless --threads and --spinning say otherwise; several
    bundles all have the number of threads of the one that needs most. They take turns with each other and
    with PyTorch eager; the paper's figures are shown next to theirs. Run it on a machine that does nothing
    else.

    \b
    Examples:
      satexport measure build/sat-t-2s/onnx
      satexport measure build/sat-b-2s/onnx build/sat-b-2s/onnx-x8
      satexport measure build/sat-t-2s/onnx --threads 2 --spinning     the shortest latency
    """
    from satexport.bundle.folder import open_bundle
    from satexport.bundle.places import check_places
    from satexport.files import write_json
    from satexport.measure.turns import MeasureOptions, measure
    from satexport.report.pictures import write_picture
    from satexport.report.serialize import to_json

    opened = list({bundle.path.resolve(): bundle for bundle in map(open_bundle, bundles)}.values())
    place = folder or (opened[0].reports if len(opened) == 1 else Path("build/measure"))
    file, picture = place / "measure.json", place / "measure.png"
    own = [] if folder or len(opened) == 1 else [bundle.reports / "measure.json" for bundle in opened]
    places = [("report", file), ("report's picture", picture), *(("report", path) for path in own)]
    check_places(places, bundles)  # before the work
    report = measure(opened, MeasureOptions(threads=threads, spinning=spinning, streams=streams, steps=steps,
                                            pause=pause, checkpoint=checkpoint, eager=eager))

    def write() -> list[str]:
        write_json(file, to_json(report))
        for number, path in enumerate(own):
            write_json(path, to_json(report.select_bundle(number)))
        return write_picture(picture, report)

    for text in report.notes:
        note(text)
    finish_report(report, write, as_json)
