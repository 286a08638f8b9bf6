"""Tasks on several processes or machines by Dask (dask.distributed): in this process, on workers of this
machine, or on those of a scheduler that runs already. Dask is imported only when it is used.

A task is a function that can be imported, and one item; both, and the result, are pickled. Workers must have
the same satexport as the command, and see bundles and recordings at the same paths.
"""

from __future__ import annotations

import logging
import os
import signal
import ssl
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Protocol, TypeVar

from satexport import errors
from satexport.errors import MissingError, RunError, SatexportError, UsageError, requires_extra
from satexport.origin import cores, sources_sha256
from satexport.terminal import note
from satexport.version import __version__

Item = TypeVar("Item")
Result = TypeVar("Result")

LOOPBACK = "127.0.0.1"
CONNECT_SECONDS = 10      # to connect to a scheduler
WORKER_SECONDS = 30       # until its first worker is there
IN_FLIGHT = 2             # tasks per thread of the workers that are submitted at a time, so that none waits
# The environment of workers, in place of that of Dask, which also lets malloc return memory at once: that and
# the profiler, which is off, cost a sixth of the time of `satexport tag`.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
RETRIES = 1               # of a task that ended its worker
PATIENCE = 60             # s without a worker, after which a run ends


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

    def run_alone(self, function: Callable[[Item], Result], items: Iterable[Item]
                  ) -> Iterator[tuple[Item, Result | Lost]]:
        """The same, with one task at a time: if its worker ends, it is because of this task."""


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
        yield DaskCluster(client, is_remote=options.scheduler is not None)


class ThisProcess:
    """Runs tasks one after the other in this process."""

    size, dashboard = 1, ""

    def check(self, function: Callable[[Item], Result], item: Item) -> dict[str, Result]:
        return {"this process": function(item)}

    def run(self, function: Callable[[Item], Result], items: Iterable[Item]
            ) -> Iterator[tuple[Item, Result | Lost]]:
        for item in items:
            yield item, function(item)

    run_alone = run


class DaskCluster:
    """Runs tasks on the workers of a Dask scheduler."""

    def __init__(self, client: Any, *, is_remote: bool) -> None:
        self._client, self._is_remote = client, is_remote
        self.size = len(self._workers())
        self.dashboard = _dashboard(client)

    def _workers(self) -> dict[str, Any]:
        return dict(self._client.scheduler_info(n_workers=-1)["workers"])

    def check(self, function: Callable[[Item], Result], item: Item) -> dict[str, Result]:
        answers = self._client.run(partial(_call, function, item, sources_sha256()), on_error="return")
        if not answers:
            raise RunError("the workers are gone. Start some, and run the command again.")
        return {address: self._open(answer, address) for address, answer in answers.items()}

    def run(self, function: Callable[[Item], Result], items: Iterable[Item]
            ) -> Iterator[tuple[Item, Result | Lost]]:
        task = partial(_call, function, sources=sources_sha256())
        suspects: list[Item] = []  # whose worker ended, perhaps because of a task beside it
        for item, result in self._run(task, iter(items), lambda: IN_FLIGHT * self._threads()):
            if isinstance(result, Lost):
                suspects.append(item)
            else:
                yield item, result
        yield from self._run(task, iter(suspects), lambda: 1)

    def run_alone(self, function: Callable[[Item], Result], items: Iterable[Item]
                  ) -> Iterator[tuple[Item, Result | Lost]]:
        yield from self._run(partial(_call, function, sources=sources_sha256()), iter(items), lambda: 1)

    def _run(self, task: Callable[[Item], _Answer], waiting: Iterator[Item], limit: Callable[[], int]
             ) -> Iterator[tuple[Item, Any]]:
        """Run a task for each item, as many at a time as `limit` says, which changes with the workers."""
        active: dict[Any, Item] = {}
        try:
            while True:
                for item in islice(waiting, max(0, limit() - len(active))):
                    active[self._client.submit(task, item, pure=False)] = item
                if not active:
                    return
                for future in self._wait(list(active)):
                    item = active.pop(future)
                    yield item, self._result(future)
        finally:
            self._client.cancel(list(active), force=True)

    def _threads(self) -> int:
        return sum(worker["nthreads"] for worker in self._workers().values()) or 1

    def _wait(self, futures: list[Any]) -> Iterable[Any]:
        """Wait until one of the tasks has ended. Raises `RunError` if there are no workers for a while."""
        from distributed import wait

        checks = 0  # without a worker, one after the other: some may just be starting again
        while True:
            try:
                ended: Iterable[Any] = wait(futures, timeout=PATIENCE, return_when="FIRST_COMPLETED").done
                return ended
            except TimeoutError:
                checks = 0 if self._workers() else checks + 1
                if checks == 2:
                    raise RunError(f"the scheduler has had no workers for {PATIENCE:g} s. What is finished "
                                   "stays: start some, and run the command again.") from None
            except (CancelledError, OSError):
                raise _gone() from None

    def _result(self, future: Any) -> Any:
        """The result of a task that has ended. Raises its error, or `RunError` if the scheduler is gone."""
        from distributed.scheduler import KilledWorker

        try:
            answer = future.result()
        except KilledWorker as error:
            return Lost(reason=f"it ended its worker {error.allowed_failures + 1} times, the last time "
                               f"{error.last_worker.address}; perhaps the worker had too little memory")
        except (CancelledError, OSError):  # `_call` returns those of the task
            raise _gone() from None
        except Exception as error:  # it could not even begin: nothing of the task is there
            answer = error
        return self._open(answer, "")

    def _open(self, answer: _Answer | BaseException, address: str) -> Any:
        """The result in an answer. Raises the error in it."""
        if isinstance(answer, BaseException):
            raise MissingError(f"worker {address}{' ' * bool(address)}cannot run tasks ({answer}); expected "
                               f"satexport {__version__} and its extra batch in the Python of each worker. "
                               "Install it there.")
        if answer.failure:
            name, message, lines = answer.failure
            prefix = f"worker {address or answer.worker}: " if self._is_remote else ""
            raise getattr(errors, name)(prefix + message, *lines)
        return answer.result


def _gone() -> RunError:
    return RunError("the scheduler is gone. What is finished stays: run the command again once the cluster "
                    "is back.")


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
    except Exception as error:  # a bug in the task, which must not look like one of the cluster
        text = f"{type(error).__name__}: {error}. If this looks like a bug in satexport, report it."
        return _Answer(name, failure=("RunError", text, ()))


@contextmanager
def _start(distributed: Any, workers: int) -> Iterator[Any]:
    """Start workers on this machine, one thread each, which nobody else can use: on the loopback address,
    with certificates made for this run. They leave no files."""
    with ExitStack() as stack:
        import dask

        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="satexport-dask-", ignore_cleanup_errors=True))
        stack.enter_context(dask.config.set({
            "temporary-directory": folder, "distributed.scheduler.allowed-failures": RETRIES,
            "distributed.worker.profile.enabled": False, "distributed.nanny.pre-spawn-environ": ONE_THREAD}))
        with _without_interrupts():  # Ctrl-C in a terminal reaches only this process, which ends them
            cluster = stack.enter_context(distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, host=LOOPBACK, memory_limit=None,
                dashboard_address=f"{LOOPBACK}:0", security=distributed.Security.temporary(),
                silence_logs=logging.CRITICAL))
        yield stack.enter_context(distributed.Client(cluster))


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Block SIGINT in threads and processes that start inside this block; in this thread it waits until the
    block ends. Windows has no such mask."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # else it starts within, and undoes the mask of its thread
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _connect(distributed: Any, options: ClusterOptions) -> Iterator[Any]:
    """Connect to a scheduler that runs already."""
    security = None
    if options.tls_ca:
        for file in (options.tls_ca, options.tls_cert, options.tls_key):
            if file and not os.path.isfile(file):
                raise UsageError(f"{file}: no such file; expected one in PEM format.")
        try:
            ssl.create_default_context(cafile=options.tls_ca).load_cert_chain(
                str(options.tls_cert), str(options.tls_key))
        except (OSError, ValueError) as error:
            raise UsageError(f"--tls-ca {options.tls_ca}, --tls-cert {options.tls_cert} and --tls-key "
                             f"{options.tls_key} cannot be used ({error}); expected files in PEM "
                             "format.") from None
        security = distributed.Security(
            tls_ca_file=str(options.tls_ca), tls_client_cert=str(options.tls_cert),
            tls_client_key=str(options.tls_key), require_encryption=True)
    try:
        client = distributed.Client(options.scheduler, timeout=CONNECT_SECONDS, security=security)
    except (OSError, TimeoutError, ValueError, RuntimeError) as error:
        raise RunError(f"no Dask scheduler answers at {options.scheduler} ({error}); expected an address "
                       "such as tcp://HOST:8786, as `dask scheduler` prints it. Start one, or leave "
                       "--scheduler out to work on this machine.") from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what goes wrong is told as our errors
    with client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            note(f"Waiting for workers at {options.scheduler}, up to {WORKER_SECONDS} s.")
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
