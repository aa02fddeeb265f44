"""How far somebody other than its submitter checked a row, as `leaderboards.acceptance` wrote it beside the record."""

import json
from typing import Any

from leaderboards.entries import Entry

CLAIMED = "claimed"
# Of the checks that may be left out, the one without which nobody knows what the numbers are about.
SPLIT = "data split"


def rerun_of(entry: Entry) -> str:
    """'claimed', 'attacks' or 'all'; only what was accepted, and is about this very record, counts."""
    return str(_found(entry).get("rerun", CLAIMED))


def checked(entry: Entry) -> str:
    """The same for a table: with what was not checked."""
    left = [f["check"] for f in _found(entry).get("findings", ()) if f["state"] == "not checked"]
    return f"{rerun_of(entry)}, {SPLIT} not checked" if SPLIT in left else rerun_of(entry)


def _found(entry: Entry) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(entry.verification.read_text(encoding="utf-8"))
        whole = found["record"] == entry.hash and found["accepted"] is True
        _ = [(f["check"], f["state"]) for f in found["findings"]]
        return found if whole else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
