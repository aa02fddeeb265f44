"""Rows for the tests of the site: everything that a board can show, and what a hostile submitter would write."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from audit.records import External, Record, Submission
from leaderboards.entries import Entry, add, load, row
from leaderboards.leakage import MASKED
from leaderboards.site.build import write_site
from leaderboards.site.templates import PICTURE
from tests.records_factory import HOSTILE, attack, defense, hostile_record, record, seed_result

SUITE = "class-leakage-v1"
BOARD = f"boards/{SUITE}-digits.html"


def submitted(
    name: str,
    leakages: Sequence[float | None],
    accuracy: float = 0.9,
    *,
    flags: tuple[str, ...] = (),
    profile: str = "smoke",
    steps: int | None = 64,
    target: str | None = None,
    **about: object,
) -> Record:
    """A submission of one defense, with the leakage of its one attack per seed; None: the attack failed there."""

    def one(seed: int, leakage: float | None) -> object:
        found = (
            attack("reconversion", None, None, status="failed", reason="the image left the number range at update 37")
            if leakage is None
            else attack("reconversion", 90.0, leakage)
        )
        made = defense("privatesnn", accuracy + 0.002 * seed, [found], requested=True, steps=steps)
        own = hashlib.sha256(f"{target or name} {seed}".encode()).hexdigest()
        made = made.model_copy(update={"flags": flags, "target_hash": own})
        return seed_result(seed).model_copy(update={"defenses": (made,)})

    made = record(results=[one(seed, leakage) for seed, leakage in enumerate(leakages)])  # type: ignore[misc]
    submission = Submission.model_validate({"name": name, "authors": ("A. Author",), "licence": "MIT", **about})
    passed = {"defense.time_steps": "64"}
    return made.model_copy(
        update={"suites": (SUITE,), "submission": submission, "profile": profile, "settings_passed": passed}
    )


def rerun(entry: Entry, level: str) -> None:
    """As `verify` leaves it beside a row."""
    found = {"record": entry.hash, "accepted": True, "rerun": level, "findings": []}
    entry.verification.write_text(json.dumps(found), encoding="utf-8")


def fill(root: Path) -> list[Entry]:
    """Boards with everything on them: ranks, flags, what is missing, two profiles, an external result, pictures."""
    scores = b"raw scores"
    best = add(submitted("quiet", (0.10, 0.12, 0.11), 0.90), scores, PICTURE + b"pixels", root)
    add(submitted("loud", (0.60, 0.64, 0.62), 0.95, flags=("transfer-beats-direct",)), scores, None, root)
    clumsy = add(submitted("clumsy", (0.70, 0.74, 0.72), 0.80, paper="https://example.org/paper"), scores, None, root)
    rerun(clumsy, "attacks")
    add(submitted("masked", (0.01, 0.02, 0.01), 0.96, flags=(MASKED,)), scores, None, root)
    add(submitted("unmeasured", (None, None, None), 0.85), scores, None, root)
    add(submitted("ann", (0.5, 0.5, 0.52), 0.97, steps=None), scores, None, root)
    add(submitted("elsewhere", (0.3, 0.33, 0.31), profile="small"), scores, None, root)
    stronger = submitted("stronger", (0.40, 0.44, 0.41), 0.90, target="quiet", paper="https://example.org/attack")
    external = External(about=best.hash)
    rerun(add(stronger.model_copy(update={"external": external}), scores, None, root), "all")
    rumour = submitted("rumour", (0.90, 0.94, 0.91), target="quiet")
    add(rumour.model_copy(update={"external": external}), scores, None, root)
    add(row(record().model_copy(update={"suites": ("paper-v1",)}), "dc-cet"), scores, None, root)
    return load(root)


def named(entries: Sequence[Entry], name: str) -> Entry:
    return next(e for e in entries if e.record.submission is not None and e.record.submission.name == name)


def hostile(root: Path) -> Path:
    """A site of which every submitted text is hostile."""
    document = replaced(submitted(HOSTILE[:80], (0.4, 0.44), authors=(HOSTILE[:80],), flags=("odd",)))
    document["results"][0]["defenses"][0]["flags"] = [HOSTILE]
    document["submission"]["licence"] = HOSTILE[:80]
    made = Record.model_validate(document)
    scores = b""
    about = add(made, scores, b"<script>alert(1)</script>", root)
    external = made.model_copy(update={"external": External(about=about.hash)})
    add(external, scores, None, root)
    entries = load(root)
    # A name of a defense or of a data set is a folder's name too, which HOSTILE cannot be.
    other = row(hostile_record().model_copy(update={"suites": (SUITE,)}), f"{HOSTILE} privatesnn")
    path = root / "other.json"
    other.write(path)
    write_site([*entries, Entry(other, path)], root / "site", submitting=f"# {HOSTILE}\n\n[{HOSTILE}](javascript:x)")
    return root / "site"


def replaced(found: Record) -> dict[str, object]:
    document = hostile_record().model_dump(mode="json")
    own = found.model_dump(mode="json")
    for key in ("results", "suites", "submission", "profile"):
        document[key] = own[key]
    for result in document["results"]:
        for part in result["defenses"]:
            part["summary"] = part["origin"] = HOSTILE
            part["attacks"][0]["attack"] = f"{HOSTILE} attack"
    document["dataset"] = own["dataset"]
    document["profile"] = HOSTILE
    return document
