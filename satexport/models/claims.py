"""What papers say about a model: their figures, and how they counted. Imports only the standard library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Counting:
    """How a paper counted the operations of a step, as far as its figure shows. A multiply-add is two,
    products with weights and convolutions always count, the front end does not."""

    attention: bool            # whether the products of the attention count
    every_token: bool = False  # whether all tokens count in the last block, also those nobody reads after it
    variant: str = ""          # whose graph was counted; "": the variant's own
    tokens: int | None = None  # as if there were so many tokens; None: those that there are
    more: float = 0.0          # 1e9 operations that count besides
    what: str = ""             # the above in words
    reason: str = ""           # why the printed figure is another one, a sentence; "": it is not


@dataclass(frozen=True, kw_only=True)
class EmbeddingFigures:
    """The figures that a paper gives for a kind of embedding."""

    size: int                  # numbers
    hear: float | None = None  # %, mean normalised score over the tasks of HEAR


@dataclass(frozen=True, kw_only=True)
class PaperFigures:
    """The figures that a paper gives for a variant, by the paper's own definitions. None: it gives none."""

    paper: str                         # its number on arXiv, such as "2305.17834"
    tables: tuple[str, ...] = ()       # in it, such as "Table 1"
    title: str = ""                    # the model as the paper calls it; "": as satexport does
    note: str = ""                     # how its definitions differ from those of satexport
    parameters_m: float | None = None  # 1e6 weights
    tokens: int | None = None
    memory_mb: float | None = None     # MB of one step
    gflops: float | None = None        # 1e9 operations of one step
    counting: Counting | None = None   # of `gflops`; None: not known
    map: float | None = None           # %, AudioSet's evaluation set
    segment_f1: float | None = None    # %, AudioSet's strongly labelled evaluation set
    onset_f1: float | None = None      # %, likewise
    is_mixed: bool = False             # the figures are of several models, and `map` is another's
    embeddings: Mapping[str, EmbeddingFigures] = field(default_factory=dict)  # by kind

    @property
    def source(self) -> str:
        """The paper and its tables: "arXiv 2305.17834, Tables 2 and 3"."""
        numbers = " and ".join(table.removeprefix("Table ") for table in self.tables)
        return f"arXiv {self.paper}" + (f", Table{'s'[:len(self.tables) - 1]} {numbers}" if numbers else "")
