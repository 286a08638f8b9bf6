"""Tasks on several processes or machines by Dask (dask.distributed): in this process, on workers of this
machine, or on those of a scheduler that runs already. Dask is imported only when it is used.

A task is a function that can be imported, and one item; both, and the result, are pickled. Workers must have
the same satexport as the command, and see bundles and recordings at the same paths.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from satexport import errors
from satexport.errors import MissingError, RunError, SatexportError, UsageError, requires_extra
from satexport.origin import cores, sources_sha256
from satexport.version import __version__

Item = TypeVar("Item")
Result = TypeVar("Result")

LOOPBACK = "127.0.0.1"
CONNECT_SECONDS = 10      # to connect to a scheduler
WORKER_SECONDS = 30       # until its first worker is there
IN_FLIGHT = 4             # tasks per worker that are submitted at a time, so that no worker waits


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Where tasks run. Raises `UsageError` if the options do not fit together."""

    workers: int | None = None       # processes on this machine; None: one for each core
    scheduler: str | None = None     # address of a Dask scheduler that runs already, tcp://HOST:PORT
    tls_ca: Path | None = None       # its certificate authority, and the certificate and key of this command
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def __post_init__(self) -> None:
        tls = [self.tls_ca, self.tls_cert, self.tls_key]
        if self.workers and self.scheduler:
            raise UsageError("--workers starts workers on this machine, and --scheduler uses those of a "
                             "cluster that runs already. Leave one of them out.")
        if self.scheduler and self.scheduler.startswith("tls:") and not any(tls):
            raise UsageError(f"--scheduler {self.scheduler} needs --tls-ca, --tls-cert and --tls-key.")
        if any(tls) and not (all(tls) and self.scheduler):
            raise UsageError("--tls-ca, --tls-cert and --tls-key belong together, and to --scheduler: "
                             "expected all four of these options, or none of the three.")


@dataclass(frozen=True, kw_only=True)
class Lost:
    """The result of a task that ended its worker each time that it was tried."""

    reason: str


class Cluster(Protocol):
    """Workers that run tasks."""

    size: int         # number of workers at the start
    dashboard: str    # address of Dask's dashboard; "": there is none

    def check(self, function: Callable[[Item], Result], item: Item) -> dict[str, Result]:
        """Run a task once on every worker that is there: name of the worker -> result. Raises the errors of
        the function, and `MissingError` for a worker without satexport, or with another version of it."""

    def run(self, function: Callable[[Item], Result], items: Iterable[Item]
            ) -> Iterator[tuple[Item, Result | Lost]]:
        """Run a task for each item, and yield the results as they come, in any order. Only some tasks are
        submitted at a time, so there may be millions. A task whose worker ends is tried again on another one.
        Raises the errors of the function, and `RunError` if the scheduler is gone; the other tasks are then
        cancelled."""


@contextmanager
def open_cluster(options: ClusterOptions | None) -> Iterator[Cluster]:
    """Yield workers: those that the options name or, for None, this process. Raises `MissingError` if Dask is
    not installed, `RunError` if no scheduler answers or it has no workers."""
    if options is None:
        yield ThisProcess()
        return
    with requires_extra("batch"):
        import distributed
    with ExitStack() as stack:
        client = stack.enter_context(_connect(distributed, options) if options.scheduler
                                     else _start(distributed, options.workers or cores()))
        try:
            yield DaskCluster(client, is_remote=options.scheduler is not None)
        finally:
            client.cancel(list(client.futures), force=True)


class ThisProcess:
    """Runs tasks one after the other in this process."""

    size, dashboard = 1, ""

    def check(self, function: Callable[[Item], Result], item: Item) -> dict[str, Result]:
        return {"this process": function(item)}

    def run(self, function: Callable[[Item], Result], items: Iterable[Item]
            ) -> Iterator[tuple[Item, Result | Lost]]:
        for item in items:
            yield item, function(item)


class DaskCluster:
    """Runs tasks on the workers of a Dask scheduler."""

    def __init__(self, client: Any, *, is_remote: bool) -> None:
        self._client, self._is_remote = client, is_remote
        self.size = len(self._workers())
        self.dashboard = _dashboard(client)

    def _workers(self) -> dict[str, Any]:
        return dict(self._client.scheduler_info(n_workers=-1)["workers"])

    def check(self, function: Callable[[Item], Result], item: Item) -> dict[str, Result]:
        task = partial(_call, function, item, sources_sha256())
        answers = self._client.run(task, on_error="return")
        results = {}
        for address, answer in answers.items():
            if isinstance(answer, BaseException):
                raise MissingError(f"worker {address} cannot run tasks ({answer}); expected satexport "
                                   f"{__version__} and its extra batch in the Python of each worker. Install "
                                   "it there.")
            results[address] = self._open(answer, address)
        return results

    def run(self, function: Callable[[Item], Result], items: Iterable[Item]
            ) -> Iterator[tuple[Item, Result | Lost]]:
        from distributed import as_completed

        task = partial(_call, function, sources=sources_sha256())
        waiting, item_of = iter(items), dict[str, Item]()
        active = as_completed(raise_errors=False)

        def submit(count: int) -> None:
            for item in islice(waiting, count):
                future = self._client.submit(task, item, pure=False)
                item_of[future.key] = item
                active.add(future)

        submit(IN_FLIGHT * max(1, self.size))
        for future in active:
            yield item_of.pop(future.key), self._result(future)
            submit(1)

    def _result(self, future: Any) -> Any:
        """The result of a task that has ended."""
        from distributed.comm import CommClosedError
        from distributed.scheduler import KilledWorker

        try:
            answer = future.result()
        except KilledWorker as error:
            return Lost(reason=f"it ended its worker {error.allowed_failures + 1} times, the last time "
                               f"{error.last_worker.address}; perhaps the worker had too little memory")
        except (CommClosedError, OSError, CancelledError) as error:
            raise RunError(f"the scheduler is gone ({error}). What is finished stays: run the command again "
                           "once the cluster is back.") from None
        return self._open(answer, "")

    def _open(self, answer: _Answer, worker: str) -> Any:
        """The result in an answer. Raises the error in it."""
        prefix = f"worker {worker or answer.worker}: " if self._is_remote else ""
        if answer.failure:
            name, message, lines = answer.failure
            raise getattr(errors, name)(prefix + message, *lines)
        return answer.result


@dataclass(frozen=True)
class _Answer:
    """What a task returns: its result, or the class, message and lines of a `SatexportError`."""

    worker: str
    result: Any = None
    failure: tuple[str, str, tuple[str, ...]] | None = None


def _call(function: Callable[[Item], Result], item: Item, sources: str) -> _Answer:
    """Run a task on a worker, if its satexport has these sources."""
    from distributed import get_worker

    try:
        name = get_worker().address
    except ValueError:  # `check` runs it beside the tasks, and knows the worker
        name = ""
    try:
        if sources != sources_sha256():
            raise MissingError(f"has another satexport, {__version__} in {Path(__file__).parent}, whose "
                               "sources differ from those of this command; expected the same. Install the "
                               "same version on each worker, and start the workers again.")
        return _Answer(name, function(item))
    except SatexportError as error:
        return _Answer(name, failure=(type(error).__name__, error.message, error.lines))


@contextmanager
def _start(distributed: Any, workers: int) -> Iterator[Any]:
    """Start workers on this machine, one thread each, which nobody else can use: on the loopback address,
    with certificates made for this run. They leave no files."""
    with ExitStack() as stack:
        import dask

        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="satexport-dask-", ignore_cleanup_errors=True))
        stack.enter_context(dask.config.set({"temporary-directory": folder}))
        cluster = stack.enter_context(distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, host=LOOPBACK, memory_limit=None,
            dashboard_address=f"{LOOPBACK}:0", security=distributed.Security.temporary(),
            silence_logs=logging.CRITICAL))
        yield stack.enter_context(distributed.Client(cluster))


@contextmanager
def _connect(distributed: Any, options: ClusterOptions) -> Iterator[Any]:
    """Connect to a scheduler that runs already."""
    security = None
    if options.tls_ca:
        for file in (options.tls_ca, options.tls_cert, options.tls_key):
            if file and not os.path.isfile(file):
                raise UsageError(f"{file}: no such file; expected one in PEM format.")
        security = distributed.Security(
            tls_ca_file=str(options.tls_ca), tls_client_cert=str(options.tls_cert),
            tls_client_key=str(options.tls_key), require_encryption=True)
    try:
        client = distributed.Client(options.scheduler, timeout=CONNECT_SECONDS, security=security)
    except (OSError, TimeoutError, ValueError, RuntimeError) as error:
        raise RunError(f"no Dask scheduler answers at {options.scheduler} ({error}); expected an address "
                       "such as tcp://HOST:8786, as `dask scheduler` prints it. Start one, or leave "
                       "--scheduler out to work on this machine.") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except TimeoutError:
            raise RunError(f"the scheduler at {options.scheduler} has no workers. Start some: dask worker "
                           f"{options.scheduler} --nthreads 1") from None
        yield client


def _dashboard(client: Any) -> str:
    """The address of the dashboard; "" without bokeh, which draws it."""
    try:
        import bokeh  # noqa: F401
    except ImportError:
        return ""
    return str(client.dashboard_link)
