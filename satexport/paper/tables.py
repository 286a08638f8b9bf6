"""The tables: which rows each has, and what its paper leaves open. The published figures of a variant
stand in the `paper` of its family; a row of a model that satexport does not have brings its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from satexport.models.families import all_variants, find_embeddings, named_variant, paper_figures
from satexport.models.family import PaperFigures, Variant
from satexport.parity.sed import COLLAR_SECONDS, SEGMENT_SECONDS

SAT, EFFICIENTAT, EMBEDDINGS = "2305.17834", "2211.04772", "2303.01879"   # papers on arXiv
_NAMES: Final = {  # first word of a model -> as the paper writes it
    "vit": "ViT", "sat": "SAT", "ast": "AST", "passt": "PaSST", "beats": "BEATs", "htsat": "HTS-AT"}


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
    """A table of a paper."""

    name: str
    title: str
    rows: tuple[RowPlan, ...]
    notes: tuple[str, ...]
    is_measured: bool = True      # whether its rows have operations and memory
    needs_events: bool = False    # whether its labelled figures need strong labels


def _title(name: str) -> str:
    model = name.rpartition("-")[0].split("-")
    return "-".join([_NAMES.get(model[0], model[0]), *(word.upper() for word in model[1:] if word != "s16")])


def _row(name: str, paper: str = SAT, title: str = "", kind: str = "") -> RowPlan:
    variant = named_variant(name)
    claims = next(claims for claims in paper_figures(variant) if claims.paper == paper)
    return RowPlan(name=name, title=title or _title(name), seconds=variant.delay, published=claims,
                   variant=variant, kind=kind)


def _foreign(title: str, **published: float) -> RowPlan:
    claims = PaperFigures(paper=SAT, table="Table 1", **published)  # type: ignore[arg-type]
    return RowPlan(name=title, title=title, seconds=10, published=claims, variant=None)


def _sizes(model: str, seconds: int) -> Iterator[RowPlan]:
    yield from (_row(f"{model}-{size}-{seconds}s") for size in "tsb")


_MEMORY_NOTE = (
    "The SAT paper does not say which memory it means: its figures are peaks of one forward pass of one "
    "sample without the weights. Those of SAT and ViT are near what PyTorch keeps for a backward pass, "
    "which no step of a stream needs; transient and state are what a step needs in ONNX Runtime.")
_PROTOCOL_NOTE = (
    "The paper's mAP is that of whole clips: one spectrogram per clip, the cache empty at its beginning, the "
    "scores of its pieces averaged. A device hears a stream of chunks, which begins with the cache after "
    "silence: that is the streamed mAP.")


def table1() -> TablePlan:
    return TablePlan(
        name="table1", title=f"Table 1 of arXiv {SAT}, clips of 10 s",
        rows=(*_sizes("vit", 10), _row("ast-10s"), _foreign("KD-AST", map=47.1),
              _foreign("PaSST-Tiny", gflops=5.4, map=39.7),
              _foreign("PaSST-S", parameters_m=22, gflops=21, map=43.1), _row("passt-s16-10s"),
              _row("htsat-10s"), _row("beats-10s")),
        notes=(_MEMORY_NOTE,
               "The rows count operations differently: AST, PaSST and ViT without the products of the "
               "attention, BEATs and HTS-AT with them.",
               "ViT at 10 s: the paper prints 256 tokens; 1001 frames give 62 columns of 4, 248, and a class "
               "token for ViT-S.",
               "AST's mAP is 45.9 in the table and 46.9 in the text. KD-AST has the shape of AST. "
               "PaSST-Tiny and PaSST-S are models of another paper without public files: satexport does "
               "not have them."))


def table2() -> TablePlan:
    rows = [row for seconds in (2, 1) for row in (
        _row(f"ast-{seconds}s"), _row(f"beats-{seconds}s"), _row(f"htsat-{seconds}s"), *_sizes("vit",
        seconds), *_sizes("sat", seconds))]
    return TablePlan(
        name="table2", title=f"Table 2 of arXiv {SAT}, a delay of 2 s and 1 s", rows=tuple(rows),
        notes=(_MEMORY_NOTE, _PROTOCOL_NOTE,
               "Chunks shorter than 10 s: AST appends zero frames to the log-mel, HTS-AT zero samples to the "
               "audio; the paper says only that the input is padded. SAT-S at 1 s has the cache of 2 s."))


def table3() -> TablePlan:
    rows = [row for seconds in (2, 1) for row in (
        *_sizes("vit", seconds), _row(f"ast-{seconds}s"), _row(f"beats-{seconds}s"), *_sizes("sat", seconds))]
    return TablePlan(
        name="table3", title=f"Table 3 of arXiv {SAT}, events in strongly labelled audio", rows=tuple(rows),
        is_measured=False, needs_events=True,
        notes=(f"The paper gives the threshold, 0.5, and the number of labels in common, 381, but neither "
               f"the length of a segment nor the collar of an onset, nor whether labels are averaged. Here "
               f"segments have {SEGMENT_SECONDS:g} s and onsets a collar of {COLLAR_SECONDS:g} s, and both "
               "means are given.",))


def efficientat() -> TablePlan:
    rows = (_row(variant.name, EFFICIENTAT, variant.model) for variant in all_variants()
            if any(claims.paper == EFFICIENTAT for claims in paper_figures(variant)))
    return TablePlan(
        name="efficientat", title=f"arXiv {EFFICIENTAT}, clips of 10 s", rows=tuple(rows),
        notes=("The paper counts multiply-adds, the front end not included.",))


def embeddings() -> TablePlan:
    rows = (_row(variant.name, EMBEDDINGS, variant.model, kind) for variant in all_variants()
            for claims in paper_figures(variant) if claims.paper == EMBEDDINGS
            for kind in claims.embeddings if kind in find_embeddings(variant))
    return TablePlan(name="embeddings", title=f"arXiv {EMBEDDINGS}, embeddings", rows=tuple(rows), notes=(),
                     is_measured=False)


TABLES: Final = {"table1": table1, "table2": table2, "table3": table3, "efficientat": efficientat,
                 "embeddings": embeddings}
