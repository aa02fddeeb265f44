"""The page of one board: its table with what sorting and filtering need, its plots, the legend of its flags."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from audit.flags import FLAGS
from audit.suites import SUITES
from leaderboards.board import UNRANKED, Board, Row, table
from leaderboards.cells import Cell, Column, Number
from leaderboards.site.pareto import plots
from leaderboards.site.templates import slug

COUNTED = ("rank",)


@dataclass(frozen=True)
class Flag:
    name: str
    text: str
    anchor: str


@dataclass(frozen=True)
class Line:
    """A row of the table; ``cells`` are (cell, what it is sorted by: '' is last in both directions)."""

    row: Row
    cells: tuple[tuple[Cell, str], ...]
    flags: tuple[Flag, ...]
    ranked: bool
    group: int


def board_path(board: Board) -> str:
    return f"boards/{slug(f'{board.suite}-{board.dataset}')}.html"


def board_context(board: Board) -> dict[str, Any]:
    """What the template of a board is filled with."""
    made = table(board)
    flags = legend([flag for row in board.rows for flag in row.flags])
    groups = list(dict.fromkeys(row.comparable for row in board.rows))
    lines = [
        Line(
            row,
            tuple((cell, sort_key(cell, column)) for cell, column in zip(cells, made.columns, strict=True)),
            tuple(flags[flag] for flag in row.flags),
            row.rank != UNRANKED,
            groups.index(row.comparable),
        )
        for row, cells in zip(board.rows, made.rows, strict=True)
    ]
    explained = {f"{flag.name}: {flag.text}." for flag in flags.values()}
    return {
        "board": board,
        "suite": SUITES[board.suite],
        "table": made,
        "heads": [(column, is_number(column)) for column in made.columns],
        "lines": lines,
        "groups": groups,
        "flags": list(flags.values()),
        "notes": [note for note in made.footnotes if note.text not in explained],
        "plots": plots(board),
    }


def legend(flags: Sequence[str]) -> dict[str, Flag]:
    """Each flag once, with its line of `audit.flags` and the place on the page where that line is."""
    names = list(dict.fromkeys(flags))
    unknown = "this version has no explanation of it"
    return {name: Flag(name, FLAGS.get(name, unknown), f"flag-{i}") for i, name in enumerate(names, start=1)}


def is_number(column: Column) -> bool:
    return column.numeric or column.title in COUNTED


def sort_key(cell: Cell, column: Column) -> str:
    """A number unrounded, or text in lower case; '' for what is missing."""
    if isinstance(cell, Number):
        return "" if cell.value is None else repr(cell.value)
    if is_number(column):
        found = re.match(r"\d+", cell.main.replace(",", ""))
        return found[0] if found else ""
    return "" if cell.missing else cell.main.lower()
