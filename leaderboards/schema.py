"""The JSON Schema of a record, for readers in other languages: ``python -m leaderboards.schema [--check]``."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from audit.records import SCHEMA_VERSION, Record

PATH = Path("leaderboards/schema") / f"record-v{SCHEMA_VERSION}.json"


def schema() -> str:
    """The text of the file."""
    return (
        json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **Record.model_json_schema()}, indent=1)
        + "\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """0: the committed file is the schema (or now is); 1: ``--check`` found a difference."""
    parser = argparse.ArgumentParser(
        prog="python -m leaderboards.schema", description="export the record's JSON Schema"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when the file differs")
    options = parser.parse_args(arguments)
    if PATH.is_file() and PATH.read_text(encoding="utf-8") == schema():
        return 0
    if options.check:
        sys.stderr.write(f"{PATH} is not the schema of the code; run: python -m leaderboards.schema\n")
        return 1
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(schema(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
