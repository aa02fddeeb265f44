"""A table as plain text for a terminal of a given width: whole, with its footnotes, and no word broken."""

from collections.abc import Sequence
from textwrap import TextWrapper, wrap

from leaderboards.cells import Table
from leaderboards.rendering import plain

GAP = "  "
# A longer word than this may be broken: it is a path or a hash.
LONGEST_WORD = 30


def terminal(table: Table, width: int) -> str:
    """Upright where every column has room for its longest word, else row by row. Ends with an empty line."""
    header, rows = plain(table)
    least = [max(map(_longest_word, column)) for column in zip(header, *rows, strict=True)]
    spare = width - sum(least) - len(GAP) * (len(least) - 1)
    lines = [*wrap(table.title, width), ""]
    if spare >= 0:
        lines += _upright(table, header, rows, _widths(least, [header, *rows], spare))
    else:
        for row in rows:
            lines += [*_listed(header, row, width), ""]
    for note in table.footnotes:
        mark = f"{note.mark} " if note.mark else ""
        lines += _note(f"{mark}{note.text}", width)
    return "\n".join([*lines, "", ""])


def _note(text: str, width: int) -> list[str]:
    """Words stay whole: a path that is broken cannot be copied."""
    return TextWrapper(
        width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
    ).wrap(text)


def _upright(table: Table, header: list[str], rows: list[list[str]], widths: Sequence[int]) -> list[str]:
    lines: list[str] = []
    for i, row in enumerate([header, *rows]):
        cells = [_wrapped(text, width) for text, width in zip(row, widths, strict=True)]
        for place in range(max(map(len, cells))):
            parts = []
            for column, width, cell in zip(table.columns, widths, cells, strict=True):
                text = cell[place] if place < len(cell) else ""
                parts.append(text.rjust(width) if column.numeric else text.ljust(width))
            lines.append(GAP.join(parts).rstrip())
        if i == 0:
            lines.append("─" * (sum(widths) + len(GAP) * (len(widths) - 1)))
    return [*lines, ""]


def _listed(header: list[str], row: list[str], width: int) -> list[str]:
    """'column: cell' by line; the cell's further lines below its first."""
    names = [title.replace("\n", ", ") for title in header]
    room = width - len(GAP) - max(map(_longest_word, row))
    longest = max(1, min(max(map(len, names)), width // 2, room))
    lines = []
    for name, text in zip(names, row, strict=True):
        left, right = _wrapped(name, longest), _wrapped(text, max(1, width - longest - len(GAP)))
        for place in range(max(len(left), len(right))):
            parts = [cell[place] if place < len(cell) else "" for cell in (left, right)]
            lines.append(f"{parts[0]:{longest}}{GAP}{parts[1]}".rstrip())
    return lines


def _widths(least: Sequence[int], texts: Sequence[Sequence[str]], spare: int) -> list[int]:
    """The room that is left goes, character by character, to the column whose cells need the most lines."""
    widths = list(least)
    whole = [max(len(line) for text in column for line in text.split("\n")) for column in zip(*texts, strict=True)]
    for _ in range(spare):
        short = [whole[i] / widths[i] if widths[i] < whole[i] else 0.0 for i in range(len(widths))]
        if not any(short):
            break
        widths[short.index(max(short))] += 1
    return widths


def _wrapped(text: str, width: int) -> list[str]:
    return [line for part in text.split("\n") for line in wrap(part, width) or [""]]


def _longest_word(text: str) -> int:
    """Of the pieces that `wrap` breaks a text into; a hyphen within a word is a place to break it."""
    pieces = (piece for part in text.split("\n") for piece in wrap(part, 1, break_long_words=False))
    return min(LONGEST_WORD, max(map(len, pieces), default=1))
