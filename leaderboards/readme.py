"""Regenerate the tables and numbers of the pages from their records: ``python -m leaderboards.readme``.

A block begins with ``<!-- tables: leaderboards/records/SUITE/DATASET -->`` and ends with ``<!-- /tables -->``; the path
is relative to the page, and names a record, a folder of rows that came out of one run, or the folder of a track. What
lies between is replaced by every table to read, or by those that are named after the path, the papers' layouts among
them: ``records/paper-v1/cifar10 verdict accuracy paper-table-2``, ``tracks/robustness/cifar10 quantization-2``.
Numbers between the blocks are cells of such tables, see `leaderboards.prose`.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from audit.errors import AuditError
from audit.records import Record
from leaderboards.cells import Table
from leaderboards.entries import joined, load_folder
from leaderboards.paper.layouts import LAYOUTS
from leaderboards.paper.layouts import build as layout
from leaderboards.prose import CELL, SOURCE, filled
from leaderboards.quantization import build as quantization
from leaderboards.robustness import table as robustness
from leaderboards.tables import build, readable, render
from leaderboards.tracks import RECORD, Track, read_track

BEGIN = re.compile(r"^<!-- tables: (?P<path>\S+)(?P<names>( [a-z0-9-]+)*) -->$", re.MULTILINE)
END = "<!-- /tables -->"
SEVERAL = (
    "Rows of several runs: each run has a teacher and evaluators of its own, of the same recipe and data, and its "
    "distances are in the features of its own evaluator.\n\n"
)
TRACK = "robustness"
PAGES = (Path("README.md"), Path("docs/results.md"), Path("docs/reproduction.md"))


@dataclass(frozen=True)
class Source:
    """What a path of a page leads to: one run, those of a sweep in the order of their names, or a ``track``'s."""

    records: tuple[Record, ...]
    track: Track | None = None

    @classmethod
    def at(cls, path: Path) -> "Source":
        """A record, a folder of runs' folders, a track, or a folder of rows; submitted ones are on the boards alone."""
        track = read_track(path)
        if track is not None and track.records:
            return cls(track.records, track)
        if path.is_file():
            return cls((Record.read(path),))
        if runs := sorted(path.glob(f"*/{RECORD}")):
            return cls(tuple(map(Record.read, runs)))
        own = [entry.record for entry in load_folder(path) if entry.record.submission is None]
        return cls((joined(own, str(path)),))

    def tables(self, name: str) -> list[Table]:
        if self.track is not None:
            return [robustness(self.records, self.track.absent)] if name == TRACK else quantization(name, self.records)
        return layout(name, self.records) if name in LAYOUTS else [build(self.records[0], name)]


def block(source: Source, path: str, names: Sequence[str]) -> str:
    """The tables as Markdown, under the command that made the records; no ``names``: all that are to read."""
    command = "\n".join(" ".join(line.split()) for line in source.records[0].command.splitlines())
    if "<!--" in command or "```" in command:
        raise AuditError(f"the command in {path} cannot be shown in Markdown: {command!r}")
    names = names or (readable(source.records[0]) if source.track is None else (TRACK,))
    tables = "\n".join(render(table, "md") for name in names for table in source.tables(name))
    origin = f"Made from [`{path}`]({path}) by `python -m leaderboards.readme`; the record was made by"
    return f"{origin}\n\n```sh\n{command}\n```\n\n{SEVERAL if '  # revision ' in command else ''}{tables}"


def regenerate(readme: Path) -> str:
    """The page's text with every block made anew. Raises AuditError naming the block that cannot be."""
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise AuditError(f"cannot read {readme}: {error.strerror}") from error

    @cache
    def at(path: str) -> Source:
        return Source.at(readme.parent / path)

    named = {found["name"]: found["path"] for found in SOURCE.finditer(text)}

    @cache
    def tables(path: str, name: str) -> list[Table]:
        return at(named.get(path, path)).tables(name)

    done, position = "", 0
    try:
        while begin := BEGIN.search(text, position):
            path = begin["path"]
            end = text.find(END, begin.end())
            following = BEGIN.search(text, begin.end())
            if end < 0 or (following is not None and following.start() < end):
                raise AuditError(f"the block of {path} has no '{END}'")
            made = block(at(path), path, begin["names"].split())
            done += f"{filled(text[position : begin.end()], tables)}\n\n{made}\n{END}"
            position = end + len(END)
        rest = filled(text[position:], tables)
    except AuditError as error:
        raise AuditError(f"{readme}: {error}") from error
    if not position and not CELL.search(text):
        raise AuditError(f"{readme} holds no block '<!-- tables: leaderboards/records/PATH/record.json -->'")
    return done + rest


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
