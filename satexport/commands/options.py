"""Options that several commands share."""

from __future__ import annotations

import click

json_option = click.option("--json", "as_json", is_flag=True,
                           help="Print the machine-readable result on standard output.")
threads_option = click.option("--threads", type=click.IntRange(1, 256), metavar="N",
                              help="Threads of the runtime. Default: the target's; without any measure takes "
                                   "all cores, the other commands leave it to the runtime.")
