"""Regenerate the tables and numbers of the pages from their records: ``python -m leaderboards.readme``.

A block begins with ``<!-- tables: leaderboards/records/SUITE/DATASET -->`` and ends with ``<!-- /tables -->``; the path
is relative to the page, and names a record, a folder of rows, of which ``PATH#f8302683`` are those of the run with that
teacher, a folder of several runs, or that of a track. What lies between is replaced by every table to read, or by those
that are named after the path, the papers' layouts among them: ``records/paper-v1/cifar10 verdict paper-table-2``,
``tracks/robustness/cifar10 quantization-2``.
Numbers between the blocks are cells of such tables, see `leaderboards.prose`.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from audit.errors import AuditError
from leaderboards.cells import Table
from leaderboards.paper.layouts import LAYOUTS
from leaderboards.paper.layouts import build as layout
from leaderboards.paper.measured import Options
from leaderboards.paper.runs import Run, read
from leaderboards.prose import CELL, SOURCE, filled
from leaderboards.quantization import build as quantization
from leaderboards.robustness import table as robustness
from leaderboards.tables import build, readable, render
from leaderboards.tracks import RECORD, Track, read_track

BEGIN = re.compile(r"^<!-- tables: (?P<path>\S+)(?P<names>( [a-z0-9-]+)*) -->$", re.MULTILINE)
END = "<!-- /tables -->"
SEVERAL = (
    "Rows of several runs: each has a teacher and evaluators of its own, of the same recipe and data, and its "
    "distances are in the features of its own evaluator, so that each has tables of its own."
)
TRACK = "robustness"
PAGES = (Path("README.md"), Path("docs/results.md"), Path("docs/reproduction.md"))


@dataclass(frozen=True)
class Source:
    """What a path of a page leads to: one run, the runs that rows are of, a sweep's together, or a ``track``'s."""

    groups: Sequence[Sequence[Run]]
    track: Track | None = None

    @classmethod
    def at(cls, path: Path, teacher: str = "") -> "Source":
        """A record, a folder of runs' folders, a track, or a folder of rows; submitted ones are on the boards alone.

        ``teacher``: the beginning of a hash; of the runs of rows only that of this teacher.
        """
        track = read_track(path)
        if track is not None and track.records:
            return cls([[Run(record) for record in track.records]], track)
        if not path.is_file() and (inside := sorted(path.glob(f"*/{RECORD}"))):
            return cls([[run for record in inside for run in read(record.parent)]])
        runs = [run for run in read(path) if run.record.results[0].teacher.hash.startswith(teacher)]
        if not runs:
            raise AuditError(f"no run in {path} has a teacher {teacher}")
        return cls([[run] for run in runs])

    def tables(self, name: str) -> list[Table]:
        return [table for group in self.groups for table in self.of(group, name)]

    def of(self, group: Sequence[Run], name: str) -> list[Table]:
        records = [run.record for run in group]
        if self.track is not None:
            return [robustness(records, self.track.absent)] if name == TRACK else quantization(name, records)
        if name in LAYOUTS:
            return layout(name, records, Options(pictures=[run.pictures for run in group]))
        return [build(record, name) for record in records]


def block(source: Source, path: str, names: Sequence[str]) -> str:
    """The tables as Markdown, under the commands that made the records; no ``names``: all that are to read."""
    parts = [f"Made from [`{path}`]({path}) by `python -m leaderboards.readme`; the record was made by"]
    if len(source.groups) > 1:
        parts.append(SEVERAL)
    for group in source.groups:
        first = group[0].record
        command = "\n".join(" ".join(line.split()) for line in first.command.splitlines())
        if "<!--" in command or "```" in command:
            raise AuditError(f"the command in {path} cannot be shown in Markdown: {command!r}")
        parts.append(f"```sh\n{command}\n```")
        own = names or (readable(first) if source.track is None else (TRACK,))
        parts.append("\n".join(render(table, "md") for name in own for table in source.of(group, name)))
    return "\n\n".join(parts)


def regenerate(readme: Path) -> str:
    """The page's text with every block made anew. Raises AuditError naming the block that cannot be."""
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise AuditError(f"cannot read {readme}: {error.strerror}") from error

    @cache
    def at(path: str) -> Source:
        place, _, teacher = path.partition("#")
        return Source.at(Path(os.path.normpath(readme.parent / place)), teacher)

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
