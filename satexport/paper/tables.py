"""The tables of papers: one TOML file each in `papers/`, which says what a table shows and what its paper
leaves open. Its rows are the variants for which the paper has figures, in the `paper.py` of their
families, and the models of the paper that satexport does not have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from satexport import facts
from satexport.models.claims import PaperFigures
from satexport.models.families import all_variants, find_embeddings, paper_figures
from satexport.models.family import Variant
from satexport.parity.sed import COLLAR_SECONDS, SEGMENT_SECONDS
from satexport.report.paper_figures import SECTIONS

FOLDER = facts.shipped_folder("papers")


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """The content of one TOML; its keys are the fields."""

    title: str
    paper: str                       # its number on arXiv
    sections: tuple[str, ...]        # groups of figures, keys of SECTIONS
    table: str = ""                  # such as "Table 1"; "": all figures of the paper
    notes: tuple[str, ...] = ()      # what it leaves open; {segment_seconds} and {collar_seconds} are ours
    others: tuple[dict[str, Any], ...] = ()  # models that are not in satexport: title, seconds, figures


@dataclass(frozen=True, kw_only=True)
class RowPlan:
    """A row of a table."""

    name: str                  # of the variant; of a model that satexport does not have, the paper's
    title: str                 # as the paper calls it
    seconds: int
    published: PaperFigures
    variant: Variant | None    # None: satexport does not have the model
    kind: str = ""             # of the embedding that the row is about; "": of the scores


@dataclass(frozen=True, kw_only=True)
class TablePlan:
    """A table and its rows."""

    name: str
    title: str
    sections: tuple[str, ...]
    rows: tuple[RowPlan, ...]
    notes: tuple[str, ...]

    @property
    def is_measured(self) -> bool:
        """Whether its rows have operations or memory."""
        return not {"events", "embeddings"} & set(self.sections)

    @property
    def needs_events(self) -> bool:
        """Whether its figures of a labelled set need strong labels."""
        return "events" in self.sections

    @property
    def is_scored(self) -> bool:
        """Whether it has figures of a labelled set."""
        return bool({"events", "map"} & set(self.sections))


def find_table(name: str) -> TablePlan:
    """Return the table of this name. Raises `UsageError` if there is none, `DataError` if its file is
    damaged."""
    fields, path = facts.read_facts(FOLDER, name, "table of a paper")
    others = fields.pop("others", [])
    table = PaperTable(**facts.check_fields(PaperTable, fields, path, ["others"]), others=tuple(others))
    facts.check_values([("sections", list(table.sections), set(table.sections) <= set(SECTIONS),
                         f"some of {', '.join(SECTIONS)}")], path)
    notes = (note.format(segment_seconds=SEGMENT_SECONDS, collar_seconds=COLLAR_SECONDS)
             for note in table.notes)
    rows = sorted((*_own_rows(table), *_other_rows(table)), key=lambda row: -row.seconds)
    return TablePlan(name=path.stem, title=table.title, sections=table.sections, rows=tuple(rows),
                     notes=tuple(notes))


def _own_rows(table: PaperTable) -> Iterator[RowPlan]:
    """Yield a row for each variant that the table has, or for each kind of its embeddings."""
    for variant in all_variants():
        for claims in paper_figures(variant):
            if claims.paper == table.paper and (not table.table or table.table in claims.tables):
                kinds = [kind for kind in claims.embeddings if kind in find_embeddings(variant)]
                for kind in kinds if "embeddings" in table.sections else [""]:
                    yield RowPlan(name=variant.name, title=claims.title or variant.model,
                                  seconds=variant.delay, published=claims, variant=variant, kind=kind)


def _other_rows(table: PaperTable) -> Iterator[RowPlan]:
    for figures in table.others:
        title, seconds, *_ = (figures[key] for key in ("title", "seconds"))
        claims = {key: value for key, value in figures.items() if key != "seconds"}
        yield RowPlan(name=title, title=title, seconds=seconds, variant=None,
                      published=PaperFigures(paper=table.paper, tables=(table.table,), **claims))
