"""A table as text, never without its footnotes."""

import csv
import io

from leaderboards.cells import Table
from leaderboards.rendering import Format, render

LAST = ("table", "footnotes")


def text(table: Table, format: Format) -> str:
    """As `leaderboards.rendering.render`; in CSV, where nothing can stand below a table, every row ends with them."""
    if format != "csv":
        return render(table, format)
    notes = " ".join(f"[{note.mark}] {note.text}" if note.mark else note.text for note in table.footnotes)
    header, *rows = csv.reader(io.StringIO(render(table, "csv")))
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([[*header, *LAST], *([*row, table.title, notes] for row in rows)])
    return out.getvalue()
