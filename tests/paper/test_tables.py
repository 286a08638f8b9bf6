"""The papers' tables: the published values as printed, the way of counting of each row, and what the
tables say about what they do not have."""

from __future__ import annotations

import pytest

from satexport.facts import names, shipped_folder
from satexport.models.claims import Counting, PaperFigures
from satexport.models.families import all_variants, named_variant, paper_figures
from satexport.paper.counting import count_as_paper, write_graph
from satexport.paper.fill import PaperOptions, fill_table
from satexport.paper.tables import TablePlan, find_table
from satexport.report.blocks import describe
from satexport.report.paper_records import PaperReport, PaperRow

NAMES = names(shipped_folder("papers"))

# As printed: size in 1e6, tokens, memory in MB, GFLOPs, mAP
TABLE_1 = """
vit-t-10s     -   256   52   2.7  44.2
vit-s-10s     -   256   105  10   45.7
vit-b-10s     -   256   210  42   47.4
ast-10s       86  1212  2200 202  45.9
KD-AST        -   -     -    -    47.1
PaSST-Tiny    -   -     -    5.4  39.7
PaSST-S       22  -     -    21   43.1
passt-s16-10s 86  512   562  85   47.1
htsat-10s     31  1024  171  14   47.1
beats-10s     90  496   620  100  47.9
"""
TABLE_2 = """
ast-2s   86 1212 2200 202 39.7
beats-2s 90 96 83 17.8 38.7
htsat-2s 31 1024 171 42 5.2
vit-t-2s - 48 7.6 0.5 39.1
vit-s-2s - 48 15 2.1 40.9
vit-b-2s - 48 30 8.2 41.5
sat-t-2s - 48 9 0.5 43.3
sat-s-2s - 48 18 2.1 43.4
sat-b-2s - 48 36 8.2 45.1
ast-1s   86 1212 2200 202 36.6
beats-1s 90 48 83 17.8 35.2
htsat-1s 31 1024 171 42 2.4
vit-t-1s - 24 3.8 0.3 33.0
vit-s-1s - 24 7.5 1.1 34.9
vit-b-1s - 24 14 4.1 34.2
sat-t-1s - 24 4.3 0.3 40.1
sat-s-1s - 24 9 1.1 40.2
sat-b-1s - 24 16 4.1 41.4
"""
TABLE_3 = """
vit-t-2s 18.2 6.2
vit-s-2s 19.0 6.4
vit-b-2s 18.8 6.2
ast-2s 13.7 4.7
beats-2s 16.1 5.7
sat-t-2s 28.9 8.6
sat-s-2s 30.6 9.0
sat-b-2s 30.1 8.4
vit-t-1s 11.1 6.2
vit-s-1s 11.7 6.4
vit-b-1s 10.2 6.2
ast-1s 10.5 4.7
beats-1s 11.0 5.7
sat-t-1s 24.2 7.3
sat-s-1s 25.3 7.1
sat-b-1s 22.3 8.3
"""


def printed(text: str) -> dict[str, list[float | None]]:
    rows = (line.split() for line in text.strip().splitlines())
    return {name: [None if cell == "-" else float(cell) for cell in cells] for name, *cells in rows}


def published(plan: TablePlan, *keys: str) -> dict[str, list[float | None]]:
    return {row.name: [getattr(row.published, key) for key in keys] for row in plan.rows}


@pytest.mark.parametrize(("name", "text"), [("table1", TABLE_1), ("table2", TABLE_2)])
def test_a_table_has_the_rows_and_the_figures_that_the_paper_prints(name: str, text: str) -> None:
    keys = "parameters_m", "tokens", "memory_mb", "gflops", "map"
    assert published(find_table(name), *keys) == printed(text)


def test_table_3_has_the_f1_of_events_that_the_paper_prints() -> None:
    assert published(find_table("table3"), "segment_f1", "onset_f1") == printed(TABLE_3)


def test_every_figure_of_a_paper_with_a_table_here_is_in_that_table() -> None:
    shown = {row.name for name in NAMES for row in find_table(name).rows}
    for variant in all_variants():
        for claims in paper_figures(variant):
            assert variant.name in shown or claims.paper in ("2308.11957", "2104.01778", "2110.05069")


def test_an_embedding_of_the_paper_has_the_size_that_the_paper_gives() -> None:
    report = fill_table(find_table("embeddings"), PaperOptions())
    sizes = {(row.name, row.kind): row.embedding_size for row in report.rows}
    assert len(sizes) == 16
    assert sizes["mn10-10s", "mb+l"] == 600
    assert sizes == {(row.name, row.kind): row.published.embeddings[row.kind].size for row in report.rows}


def counted(variant: str) -> PaperRow:
    """The row of a variant, with only the operations counted as its paper counts."""
    row = next(row for name in NAMES for row in find_table(name).rows
               if row.name == variant and row.published.gflops)
    assert row.variant
    assert row.published.counting
    graph = write_graph(row.variant)
    return PaperRow(name=row.name, title=row.title, seconds=row.seconds, published=row.published,
                    as_paper=count_as_paper(row.published.counting, row.variant, graph))


FULL_SIZE = [row.name for name in ("table1", "table2") for row in find_table(name).rows if row.variant]
QUICK = ["sat-t-1s", "mn04-10s"]


@pytest.mark.parametrize("name", [*QUICK, *(
    pytest.param(name, marks=pytest.mark.long) for name in FULL_SIZE if name not in QUICK)])
def test_operations_agree_with_the_paper_or_the_reason_is_named(name: str) -> None:
    row = counted(name)
    assert row.published.counting
    assert row.agrees is not bool(row.published.counting.reason)


def test_a_count_agrees_within_two_percent_or_to_the_printed_digits() -> None:
    def agrees(here: float, paper: float | None) -> bool | None:
        return PaperRow(name="", title="", seconds=2, as_paper=here * 1e9,
                        published=PaperFigures(paper="1", gflops=paper)).agrees

    assert [agrees(0.53, 0.5), agrees(0.56, 0.5), agrees(8.3, 8.2), agrees(8.5, 8.2), agrees(1.0, None)] == [
        True, False, True, False, None]


def test_attention_and_tokens_count_as_the_paper_counts_them() -> None:
    variant = named_variant("vit-t-48x3x2-1s")
    graph = write_graph(variant)
    bare = count_as_paper(Counting(attention=False), variant, graph)
    with_attention = count_as_paper(Counting(attention=True), variant, graph)
    # 24 tokens of width 48 in 2 blocks: queries times keys, and weights times values, 2 operations each
    assert with_attention - bare == 2 * 2 * 2 * 24 * 24 * 48
    assert count_as_paper(Counting(attention=False, tokens=12), variant, graph) == bare / 2
    assert count_as_paper(Counting(attention=True, tokens=12), variant, graph) == (
        bare / 2 + (with_attention - bare) / 4)
    assert count_as_paper(Counting(attention=False, more=1.5), variant, graph) == bare + 1.5e9


def test_what_the_paper_leaves_open_stands_below_its_table() -> None:
    texts = {name: " ".join(find_table(name).notes) for name in NAMES}
    for name, word in (("table1", "256 tokens"), ("table1", "products of the attention"),
                       ("table2", "the cache empty at its beginning"), ("table3", "collar"),
                       ("table3", "length of a segment")):
        assert word in texts[name]


def test_a_row_that_does_not_agree_says_why() -> None:
    row = next(row for row in find_table("table2").rows if row.name == "beats-1s")
    report = PaperReport(table="table2", title="Table 2", sections=("operations",), notes=(), rows=(PaperRow(
        name=row.name, title=row.title, seconds=1, published=row.published, as_paper=8.8e9),))
    assert row.published.counting
    assert f"beats-1s does not agree with the paper: {row.published.counting.reason}" in describe(report)
