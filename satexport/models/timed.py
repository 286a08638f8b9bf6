"""What the variants of all families have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Timed:
    """The properties of a `Variant` that follow from its model, delay and window."""

    sample_rate: ClassVar[int]  # Hz

    model: str
    delay: int   # s
    window: int  # s

    @property
    def name(self) -> str:
        window = f"-window-{self.window}s" if self.window > self.delay else ""
        return f"{self.model}-{self.delay}s{window}"

    @property
    def chunk_name(self) -> str:
        return f"{self.model}-{self.window}s"

    @property
    def window_samples(self) -> int:
        return self.window * self.sample_rate

    @property
    def hop_samples(self) -> int:
        return self.delay * self.sample_rate

    @property
    def memory_steps(self) -> int:
        """Those of a model without a cache: of 10 s every 3 s, a window reaches 3 steps back."""
        return -(-self.window // self.delay) - 1
