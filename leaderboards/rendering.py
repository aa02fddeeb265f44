"""A table as CSV, Markdown, LaTeX, or plain rows for a terminal."""

import csv
import io
import re
from html import escape
from typing import Literal

from leaderboards.cells import Cell, Column, Number, Table

Format = Literal["csv", "md", "tex", "html"]

PARTS = ("value", "low", "high", "interval", "n", "status", "reason")
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")
_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "−": "$-$",
    "×": r"$\times$",
    "…": r"\ldots{}",
    "\u2009": r"\,",
    **{c: "\\" + c for c in "&%$#_{}"},
}


def render(table: Table, format: Format) -> str:
    """The table as text that ends with a newline. Raises ValueError for an unknown format."""
    match format:
        case "csv":
            return _csv(table)
        case "md":
            return _markdown(table)
        case "tex":
            return _tex(table)
        case "html":
            return _html(table)
    raise ValueError(f"unknown table format {format!r}; known: csv, md, tex, html")


def plain(table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and rows for a terminal. Text from the record is as it is: escape it where brackets are markup."""
    header = [_head(c.title, c.mark) + (f"\n{c.full_detail}" if c.full_detail else "") for c in table.columns]
    return header, [[_head(_text(cell), cell.mark) for cell in row] for row in table.rows]


def _text(cell: Cell) -> str:
    return " ".join(part for part in (_one_line(cell.main), cell.interval_text) if part)


def _head(text: str, mark: str) -> str:
    return text + mark.translate(_SUPERSCRIPTS)


def _one_line(text: str) -> str:
    return _CONTROL.sub(" ", text)


def _csv(table: Table) -> str:
    """One line per row. A measured column becomes seven; values are unrounded and in the record's unit."""
    header: list[str] = []
    for column in table.columns:
        detail = "; ".join(part for part in (column.unit, column.direction or "") if part)
        stem = f"{column.full_title} [{detail}]" if detail else column.full_title
        header += [f"{stem}: {part}" for part in PARTS] if column.kind == "measured" else [stem]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for row in table.rows:
        fields: list[str] = []
        for column, cell in zip(table.columns, row, strict=True):
            if column.kind != "measured":
                fields.append(_one_line(cell.main))
            elif isinstance(cell, Number):
                parts = (getattr(cell, part) for part in PARTS)
                fields += ["" if part is None else _one_line(str(part)) for part in parts]
            else:
                fields += ["", "", "", "", "", "not-applicable", cell.text]
        writer.writerow(fields)
    return out.getvalue()


def _escape_markdown(text: str) -> str:
    text = _one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", text)


def _markdown(table: Table) -> str:
    def cell_text(cell: Cell) -> str:
        parts = (_escape_markdown(cell.main), cell.interval_text)
        return _head(" ".join(part for part in parts if part), cell.mark)

    header = [
        _head(_escape_markdown(c.title), c.mark) + (f"<br>({_escape_markdown(c.full_detail)})" if c.full_detail else "")
        for c in table.columns
    ]
    lines = [f"**{_escape_markdown(table.title)}**", "", f"| {' | '.join(header)} |"]
    lines.append("|" + "|".join("---:" if c.numeric else "---" for c in table.columns) + "|")
    lines += [f"| {' | '.join(cell_text(cell) for cell in row)} |" for row in table.rows]
    lines.append("")
    for note in table.footnotes:
        mark = f"{note.mark.translate(_SUPERSCRIPTS)} " if note.mark else ""
        lines.append(f"- {mark}{_escape_markdown(note.text)}")
    return "\n".join(lines).rstrip("\n") + "\n"


def _escape_tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in _one_line(text))


def _tex(table: Table) -> str:
    def mark(text: str, number: str) -> str:
        return text + (rf"\textsuperscript{{{number}}}" if number else "")

    def cell_text(cell: Cell) -> str:
        # A row that starts with '[' would be read as the optional argument of the '\\' before it.
        return mark(" ".join(filter(None, (_escape_tex(cell.main), _escape_tex(cell.interval_text)))), cell.mark)

    titles = [mark(_escape_tex(c.title), c.mark) for c in table.columns]
    details = [rf"{{\footnotesize {_escape_tex(c.full_detail)}}}" if c.full_detail else "" for c in table.columns]
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        r"\small",
        rf"\caption{{{_escape_tex(table.title)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{@{{}}{''.join('r' if c.numeric else 'l' for c in table.columns)}@{{}}}}",
        r"\toprule",
        " & ".join(titles) + r" \\",
        " & ".join(details) + r" \\",
        r"\midrule",
        *("{}" + " & ".join(cell_text(cell) for cell in row) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        "",
        r"\medskip",
        r"\begin{minipage}{\linewidth}\footnotesize",
        *(mark("", note.mark) + " " * bool(note.mark) + _escape_tex(note.text) + r"\par" for note in table.footnotes),
        r"\end{minipage}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _html(table: Table) -> str:
    """A <table> to be put on a page, everything escaped, and its footnotes."""

    def marked(text: str, mark: str) -> str:
        return escape(_one_line(text)) + (f"<sup>{escape(mark)}</sup>" if mark else "")

    def head(column: Column) -> str:
        detail = f"<br><small>{escape(column.full_detail)}</small>" if column.full_detail else ""
        return f'<th scope="col">{marked(column.title, column.mark)}{detail}</th>'

    lines = [f"<table>\n<caption>{escape(_one_line(table.title))}</caption>"]
    lines.append(f"<thead><tr>{''.join(map(head, table.columns))}</tr></thead>\n<tbody>")
    for row in table.rows:
        first, *others = (marked(_text(cell), cell.mark) for cell in row)
        cells = "".join(f"<td>{cell}</td>" for cell in others)
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    lines.append("</tbody>\n</table>\n<ul>")
    lines += [f"<li>{marked('', note.mark)} {escape(_one_line(note.text))}</li>" for note in table.footnotes]
    return "\n".join([*lines, "</ul>"]) + "\n"
