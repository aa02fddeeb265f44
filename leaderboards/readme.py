"""Regenerate the tables of README.md from the records named beside them: ``python -m leaderboards.readme``.

A block begins with ``<!-- tables: leaderboards/records/PATH/record.json -->`` and ends with ``<!-- /tables -->``; the
path is relative to the README. What lies between is replaced.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from audit.errors import AuditError
from audit.records import Record
from leaderboards.tables import build, readable, render

BEGIN = re.compile(r"^<!-- tables: (?P<path>\S+) -->$", re.MULTILINE)
END = "<!-- /tables -->"


def block(record: Record, source: str) -> str:
    """The tables as Markdown, under the command that made the record."""
    command = " ".join(record.command.split())
    if "<!--" in command or "```" in command:
        raise AuditError(f"the command in {source} cannot be shown in Markdown: {command!r}")
    tables = "\n".join(render(build(record, name), "md") for name in readable(record))
    origin = f"Made from [`{source}`]({source}) by `python -m leaderboards.readme`; the record was made by"
    return f"{origin}\n\n```sh\n{command}\n```\n\n{tables}"


def regenerate(readme: Path) -> str:
    """The README's text with every block made anew. Raises AuditError naming the block that cannot be."""
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
        record = Record.read(readme.parent / source)
        done += text[position : begin.end()] + "\n\n" + block(record, source) + "\n" + END
        position = end + len(END)
    if position == 0:
        raise AuditError(f"{readme} holds no block '<!-- tables: leaderboards/records/PATH/record.json -->'")
    return done + text[position:]


def main(arguments: Sequence[str] | None = None) -> int:
    """0: README is as its records say (or now is); 1: ``--check`` found a difference; 2: bad input."""
    parser = argparse.ArgumentParser(prog="python -m leaderboards.readme", description="regenerate the README's tables")
    parser.add_argument("--readme", type=Path, default=Path("README.md"), help="default: ./README.md")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when the tables differ")
    options = parser.parse_args(arguments)
    readme: Path = options.readme
    try:
        text = regenerate(readme)
    except AuditError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    if text == readme.read_text(encoding="utf-8"):
        return 0
    if options.check:
        sys.stderr.write(f"{readme} differs from its records; run: python -m leaderboards.readme\n")
        return 1
    temporary = readme.with_name(readme.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(readme)
    return 0


if __name__ == "__main__":
    sys.exit(main())
