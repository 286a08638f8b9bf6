"""A step that other processes run, such as those of a browser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from satexport.process import ProcessBound


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a step takes where it runs, in bytes; None: not known."""

    resident: int | None   # peak resident size of its processes minus their size before loading
    heap: int              # memory that its runtime allocated
    download: int | None   # what its files are compressed, as they are downloaded


class RemoteStep(ProcessBound, ABC):
    """Base class of steps that other processes run: this process's clock, CPU time and memory say nothing
    about them."""

    runtime: str          # name and version of what runs it, for people
    load_seconds: float   # of loading, as the other process counts it
    step_seconds: float   # of the last step, as the other process counts it

    @abstractmethod
    def cpu_seconds(self) -> float:
        """Return the user and system time of its processes so far."""

    @abstractmethod
    def footprint(self) -> Footprint:
        """Return what it has taken so far; may take seconds."""
