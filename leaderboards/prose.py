"""Numbers in running text: each is the cell of a table, made anew from its record like the tables themselves.

``<!-- cell PATH TABLE; ROW; COLUMN -->66.5 % [63.5, 69.4]<!-- / -->`` stands in a sentence. The path is relative to the
page, or a name that the page gives to one, ``<!-- source digits: PATH -->``. TABLE is what a block of tables would
name, ROW are words of the row, with ' & ' where it takes several of them, or ``title = words`` of one column, COLUMN is
the column's title. ``value`` in the place of ``cell`` leaves the interval out.
"""

import re
from collections.abc import Callable, Mapping, Sequence

from audit.errors import AuditError
from leaderboards.cells import Cell, Table, Words

CELL = re.compile(
    r"<!-- (?P<how>cell|value) (?P<path>\S+) (?P<table>[a-z0-9-]+); (?P<row>[^;]+); (?P<column>[^;]+?) -->"
    r"(?P<shown>[^<\n]*)<!-- / -->"
)
SOURCE = re.compile(r"^<!-- source (?P<name>\S+): (?P<path>\S+) -->$", re.MULTILINE)
BEGUN = re.compile(r"(?P<line>^)?<!-- (cell|value) ", re.MULTILINE)


def filled(text: str, tables: Callable[[str, str], Sequence[Table]]) -> str:
    """``text`` with every number made anew; ``tables``: path, or its name, and the tables' name to the tables.

    Raises AuditError for a mark that is none or begins a line, where Markdown would end the paragraph, for a row that
    is not there or is several, and for an unknown column.
    """

    def fill(found: re.Match[str]) -> str:
        shown = _shown(found["how"], cell(tables(found["path"], found["table"]), found["row"], found["column"]))
        start, end = found.span("shown")
        return found.string[found.start() : start] + shown + found.string[end : found.end()]

    sound = {match.start() for match in CELL.finditer(text)}
    for begun in BEGUN.finditer(text):
        if begun.start() not in sound or begun["line"] is not None:
            line = text[begun.start() :].partition("\n")[0][:100]
            how = "write <!-- cell PATH TABLE; ROW; COLUMN -->...<!-- / -->, not at the beginning of a line"
            raise AuditError(f"no number in a text: {line}; {how}")
    return CELL.sub(fill, text)


def cell(tables: Sequence[Table], row: str, column: str) -> Cell:
    """The one cell of that row and column. Raises AuditError saying what there is instead."""
    found: list[Cell] = []
    for table in tables:
        titles = [known.full_title for known in table.columns]
        for cells in table.rows:
            words = {title: one.text for title, one in zip(titles, cells, strict=True) if isinstance(one, Words)}
            if all(_holds(words, label) for label in row.split(" & ")):
                if column not in titles:
                    raise AuditError(f"{table.name} has no column '{column}'; it has: {'; '.join(titles)}")
                found.append(cells[titles.index(column)])
    if len(found) != 1:
        names = ", ".join(table.name for table in tables)
        raise AuditError(f"{len(found)} rows of {names} hold all of '{row}', and not one")
    return found[0]


def _holds(words: Mapping[str, str], label: str) -> bool:
    title, equals, text = label.partition(" = ")
    return words.get(title) == text if equals else label in words.values()


def _shown(how: str, found: Cell) -> str:
    interval = f" {found.interval_text}" if how == "cell" and found.interval_text else ""
    return f"{found.main}{interval}".replace("<", "&lt;")
