"""The whole site of the leaderboards, from their rows: the same rows are the same bytes."""

from collections.abc import Sequence
from pathlib import Path

from audit.errors import AuditError
from audit.suites import SUITES
from leaderboards.board import UNRANKED, Board, boards
from leaderboards.entries import Entry
from leaderboards.leakage import SCALE
from leaderboards.site.board_page import board_context, board_path
from leaderboards.site.folder import check_folder, replace_folder
from leaderboards.site.markdown import html
from leaderboards.site.row_page import row_context, row_files, row_path
from leaderboards.site.templates import Templates

SUBMITTING = """# How to submit

1. Run the audit on your defense with every attack, under several seeds: `python -m audit --defense NAME --attack all`.
2. Send the folder that it wrote, with the defense's code, to the maintainers.

A row is added when its numbers follow from its raw scores. Others may run it again, and may send stronger attacks.
"""


def write_site(entries: Sequence[Entry], out: Path, submitting: str | None = None) -> list[Path]:
    """Write the site of all boards that ``entries`` fill; returns its files.

    ``submitting``: how to submit, in the Markdown of `leaderboards.site.markdown`. ``out`` is absent, empty or an
    earlier site, which is replaced whole. Raises AuditError where it is anything else, or a file cannot be read.
    """
    check_folder(out)
    try:
        files = site_files(boards(entries), SUBMITTING if submitting is None else submitting)
    except OSError as error:
        raise AuditError(f"cannot read {error.filename} for the site: {error.strerror}") from error
    return replace_folder(out, files)


def site_files(found: Sequence[Board], submitting: str) -> dict[str, bytes | Path]:
    """Every file of the site: its name -> its content, or the file that it is a copy of."""
    templates = Templates()
    files: dict[str, bytes | Path] = {
        "index.html": templates.page("index", "", boards=[_summary(board) for board in found], scale=SCALE),
        "submit.html": templates.page("submit", "", content=html(submitting)),
    }
    for board in found:
        files[board_path(board)] = templates.page("board", "../", row_path=row_path, **board_context(board))
        for row in board.rows:
            files[row_path(row.entry)] = templates.page("row", "../", **row_context(row, board))
            files |= row_files(row)
    return files


def _summary(board: Board) -> dict[str, object]:
    return {
        "title": board.title,
        "path": board_path(board),
        "attacks": SUITES[board.suite].summary,
        "rows": len(board.rows),
        "ranked": sum(row.rank != UNRANKED for row in board.rows),
        "networks": list(dict.fromkeys(row.comparable for row in board.rows)),
    }
