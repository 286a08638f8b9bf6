"""A figure: a number of a report, with its name, definition and format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Figure(Generic[R]):
    """A number that is computed from a record."""

    key: str                            # in JSON and in docs/definitions.md; ends with its unit
    title: str                          # in tables and pictures, without the unit
    definition: str
    of: Callable[[R], float | None]     # in `unit`; None: not measured, or it does not apply
    unit: str = ""                      # "ms"; "": a count, a ratio, a score
    format: str = ".2f"                 # format specification of the value
    brief: bool = True                  # also in short tables: of a built bundle, and in docs/results
    pictured: bool = True               # in the picture
    panel_of: str = ""                  # key of the figure in whose panel this one is a mark; "": own panel
    mark: str = ""                      # name of that mark

    @property
    def head(self) -> str:
        """Title and unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    def text(self, record: R) -> str:
        """The value as tables write it; "-" if there is none."""
        return self.write(self.of(record))

    def write(self, value: float | None) -> str:
        """A value of this figure as tables write it; "-" for None."""
        return "-" if value is None else format(value, self.format)
