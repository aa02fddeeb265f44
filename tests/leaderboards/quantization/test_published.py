"""The data file is the paper's text, and what it says of the paper's own sums follows from its numbers."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from leaderboards.quantization.published import Grid, published
from leaderboards.said import Said

# The rows of the tables as the text of the paper has them.
TABLE_1 = """
7.41 13,42 34,52 3.21 8.04 13,81 2.32 5.56 16.33 1.82 7.81 25.88
6.37 11.65 22.44 0.89 3.24 5.37 0.89 3.24 5.37 1.73 7.74 22.10
"""
TABLE_2 = """
5.84 21.61 46.63 2.08 6.3 12.16 1.71 7.48 16.10 0.77 8.07 26.71
3.76 7.46 23.21 0.41 2.92 6.94 0.62 4.70 12.73 0.44 5.27 19.59
5.24 19.31 41.23 2.38 8.43 12.01 2.1 7.71 16.75 2 7.23 24.8
5.41 11.31 26.69 1.94 7.81 16.28 1.07 5.93 13.94 0.72 3.27 12.32
5.56 19.07 38.87 2.13 7.93 11.44 2.7 8.15 15.61 1.89 6.21 19.55
4.45 13.41 42.92 2.42 6.96 13.07 2.08 7.87 17.67 1.80 7.43 21.72
5.03 17.14 30.14 3.01 8.23 12.75 1.86 7.05 15.15 – – –
4.60 13.37 44.31 1.96 6.09 12.44 2.08 7.86 17.26 1.06 5.43 17.63
0.81 4.47 16.49 0.93 2.13 1.31 0.99 1.10 1.60 1.23 1.86 7.16
1.65 5.95 21.10 2.01 4.89 9.34 1.46 3.17 4.94 1.36 4.16 9.40
"""
TABLE_3 = """
1.2758 3.1738 – 0.5347
3.1236 2.8196 0.9885 0.7321
0.8081 0.6398 0.7925 0.4854
2.6948 0.7227 0.8795 0.5869
0.7804 0.6343 0.8082 0.5144
0.8659 0.7018 0.7042 0.4158
0.7578 0.6913 2.1092 –
0.7585 0.7463 0.7939 0.4784
0.5180 2.5395 0.1752 0.0493
2.3651 2.1178 0.2843 0.3162
"""
TABLE_4 = """
0.001 0.0001 0.001 1
0.01 0.01 0.01 1
0.1 0.001 0.01 1
"""
TABLE_5 = """
5.42 12 23.27
7.02 10.0 24.52
"""


def plain(text: str) -> list[list[str]]:
    """Without the zeros that a number does not need."""
    return [
        [re.sub(r"(\.\d*?)0+$", r"\1", cell).rstrip(".") for cell in line.split()] for line in text.split("\n")[1:-1]
    ]


def shown(rows: list[tuple[Said, ...]]) -> list[list[str]]:
    return [[cell.shown for cell in row] for row in rows]


def grid(said: Grid) -> list[tuple[Said, ...]]:
    return [row.cells for row in (*said.rows, *said.variation)]


def test_every_table_is_the_printed_one_cell_for_cell() -> None:
    paper = published()
    assert shown(grid(paper.table_1)) == plain(TABLE_1)
    assert shown(grid(paper.table_2)) == plain(TABLE_2)
    assert shown(grid(paper.table_3)) == plain(TABLE_3)
    assert shown([row.cells for row in paper.table_4.rows]) == plain(TABLE_4)
    assert shown([row.cells for row in paper.table_5.rows]) == plain(TABLE_5)


def columns(said: Grid, stage: str) -> list[list[float]]:
    rows = [row.cells for row in said.rows if row.stage == stage]
    return [[cell.value for cell in column if cell.value is not None] for column in zip(*rows, strict=True)]


def printed(said: Grid, stage: str) -> list[float]:
    [cells] = [spread.cells for spread in said.variation if spread.stage == stage]
    return [cell.value for cell in cells if cell.value is not None]


@pytest.mark.parametrize("stage", ["Q1", "Q2"])
def test_every_variation_follows_from_its_column_but_the_one_that_a_footnote_names(stage: str) -> None:
    paper = published()
    for said in (paper.table_2, paper.table_3):
        ranges = [max(column) - min(column) for column in columns(said, stage)]
        wrong = [
            (own, round(found, 4))
            for own, found in zip(printed(said, stage), ranges, strict=True)
            if abs(own - found) > 2e-4
        ]
        assert wrong == ([(0.1752, 1.3167)] if said is paper.table_3 and stage == "Q1" else [])
    assert "0.1752" in paper.table_3.notes[0]
    assert "1.3167" in paper.table_3.notes[0]


def test_the_abstracts_73_percent_is_the_ratio_of_the_summed_ranges_and_its_51_is_not() -> None:
    paper = published()
    before, after = (sum(printed(paper.table_2, stage)) for stage in ("Q1", "Q2"))
    assert 100 * (after / before - 1) == pytest.approx(73.23, abs=0.01)
    before, after = (sum(printed(paper.table_3, stage)) for stage in ("Q1", "Q2"))
    assert 100 * (after / before - 1) == pytest.approx(54.9, abs=0.05)
    assert 100 * (after / (before - 0.1752 + 1.3167) - 1) == pytest.approx(14.9, abs=0.05)
    assert "54.9 %" in paper.table_3.notes[1]


def test_the_text_that_the_file_was_made_from_has_these_rows() -> None:
    text = Path(__file__).parents[4] / "shared" / "seeds" / "snn-quantization-robustness-paper.txt"
    if not text.is_file():
        pytest.skip("the paper's text does not come along")
    whole = " ".join(text.read_text(encoding="utf-8").split())
    for row in (*TABLE_1.strip().split("\n"), *TABLE_2.strip().split("\n"), *TABLE_3.strip().split("\n")):
        assert row in whole


def test_a_cell_with_a_value_and_words_or_with_neither_is_refused() -> None:
    for bad in ({}, {"value": 1.0, "text": "about one"}):
        with pytest.raises(ValidationError, match="either a value or text"):
            Said.model_validate(bad)
