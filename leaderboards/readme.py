"""Regenerate the tables of README.md and docs/results.md from their records: ``python -m leaderboards.readme``.

A block begins with ``<!-- tables: leaderboards/records/SUITE/DATASET -->`` and ends with ``<!-- /tables -->``; the path
is relative to the page, and names a record, a folder of rows that came out of one run, or the folder of a track. What
lies between is replaced by every table to read, or by those that are named after the path, the papers' layouts among
them: ``records/paper-v1/cifar10 verdict accuracy paper-table-2``, ``tracks/robustness/cifar10 quantization-2``.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from audit.errors import AuditError
from audit.records import Record
from leaderboards.entries import joined, load_folder
from leaderboards.paper.layouts import LAYOUTS
from leaderboards.paper.layouts import build as layout
from leaderboards.quantization import build as quantization
from leaderboards.robustness import table as robustness
from leaderboards.tables import build, readable, render
from leaderboards.tracks import Track, read_track

BEGIN = re.compile(r"^<!-- tables: (?P<path>\S+)(?P<names>( [a-z0-9-]+)*) -->$", re.MULTILINE)
END = "<!-- /tables -->"
SEVERAL = (
    "Rows of several runs: each run has a teacher and evaluators of its own, of the same recipe and data, and its "
    "distances are in the features of its own evaluator.\n\n"
)
PAGES = (Path("README.md"), Path("docs/results.md"))


def block(record: Record, source: str, names: Sequence[str], track: Track | None = None) -> str:
    """The tables as Markdown, under the command that made the record; no ``names``: all that are to read.

    Of a ``track``, ``record`` is its first one.
    """
    command = "\n".join(" ".join(line.split()) for line in record.command.splitlines())
    if "<!--" in command or "```" in command:
        raise AuditError(f"the command in {source} cannot be shown in Markdown: {command!r}")
    if track is not None:
        tables = "\n".join(_of_a_track(track, name) for name in names or ("robustness",))
    else:
        tables = "\n".join(_tables(record, name) for name in names or readable(record))
    origin = f"Made from [`{source}`]({source}) by `python -m leaderboards.readme`; the record was made by"
    return f"{origin}\n\n```sh\n{command}\n```\n\n{SEVERAL if '  # revision ' in command else ''}{tables}"


def _tables(record: Record, name: str) -> str:
    if name in LAYOUTS:
        return "\n".join(render(table, "md") for table in layout(name, [record]))
    return render(build(record, name), "md")


def _of_a_track(track: Track, name: str) -> str:
    if name == "robustness":
        return render(robustness(track.records, track.absent), "md")
    return "\n".join(render(table, "md") for table in quantization(name, track.records))


def regenerate(readme: Path) -> str:
    """The page's text with every block made anew. Raises AuditError naming the block that cannot be."""
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise AuditError(f"cannot read {readme}: {error.strerror}") from error
    done, position = "", 0
    while begin := BEGIN.search(text, position):
        source = begin["path"]
        end = text.find(END, begin.end())
        following = BEGIN.search(text, begin.end())
        if end < 0 or (following is not None and following.start() < end):
            raise AuditError(f"{readme}: the block of {source} has no '{END}'")
        track = read_track(readme.parent / source)
        record = track.records[0] if track is not None and track.records else _record(readme.parent / source)
        done += (
            text[position : begin.end()] + "\n\n" + block(record, source, begin["names"].split(), track) + "\n" + END
        )
        position = end + len(END)
    if position == 0:
        raise AuditError(f"{readme} holds no block '<!-- tables: leaderboards/records/PATH/record.json -->'")
    return done + text[position:]


def _record(path: Path) -> Record:
    """A record, or the run whose rows lie in a folder; rows that were submitted are on the boards alone."""
    if path.is_file():
        return Record.read(path)
    return joined([entry.record for entry in load_folder(path) if entry.record.submission is None], str(path))


def main(arguments: Sequence[str] | None = None) -> int:
    """0: the pages are as their records say (or now are); 1: ``--check`` found a difference; 2: bad input."""
    parser = argparse.ArgumentParser(prog="python -m leaderboards.readme", description="regenerate the pages' tables")
    parser.add_argument("--page", type=Path, action="append", help=f"default: {', '.join(map(str, PAGES))}")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when the tables differ")
    options = parser.parse_args(arguments)
    pages: Sequence[Path] = options.page or PAGES
    try:
        texts = {page: regenerate(page) for page in pages}
    except AuditError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    differing = [page for page, text in texts.items() if text != page.read_text(encoding="utf-8")]
    for page in differing:
        if options.check:
            sys.stderr.write(f"{page} differs from its records; run: python -m leaderboards.readme\n")
            continue
        temporary = page.with_name(page.name + ".tmp")
        temporary.write_text(texts[page], encoding="utf-8")
        temporary.replace(page)
    return int(options.check and bool(differing))


if __name__ == "__main__":
    sys.exit(main())
