"""The page of one row: who submitted it, its numbers with their reasons, its tables, plots, settings and files."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from audit.records import Record
from audit.reporting import figures
from audit.reporting.headline import headline
from leaderboards.board import Board, Row
from leaderboards.cells import Number, Table
from leaderboards.checking import rerun_of
from leaderboards.entries import Entry
from leaderboards.site.board_page import Flag, board_path, legend
from leaderboards.site.templates import picture, slug, web_link
from leaderboards.tables import build, readable

CHECKED = {
    "claimed": "nobody has run it again; the numbers follow from the raw scores of the record",
    "attacks": "the attacks were run again on the submitted targets",
    "all": "everything was run again, training included",
}


@dataclass(frozen=True)
class Fact:
    """A headline number, what it is measured with, and what to keep in mind reading it."""

    name: str
    number: Number

    @property
    def made_of(self) -> str:
        images = "" if self.number.n is None else f"{self.number.n:,} images"
        interval = self.number.interval if self.number.interval_text else ""
        return ", ".join(part for part in (interval, images) if part)


@dataclass(frozen=True)
class File:
    label: str
    name: str
    sha256: str


@dataclass(frozen=True)
class ExternalResult:
    """A third party's record on the same targets, and its table of attacks; ``pending``: why it is not in force."""

    entry: Entry
    pending: str | None
    links: tuple[tuple[str, str], ...]
    table: Table
    files: tuple[File, ...]

    @property
    def authors(self) -> str:
        submission = self.entry.record.submission
        return ", ".join(submission.authors) if submission else "a third party"


def row_path(entry: Entry) -> str:
    return f"rows/{slug(entry.hash)}.html"


def row_files(row: Row) -> dict[str, Path]:
    """What the page of a row offers beside it: name in the site -> file."""
    return {f"rows/{file.name}": path for entry in _entries(row) for file, path in _files(entry)}


def _entries(row: Row) -> tuple[Entry, ...]:
    return (row.entry, *row.externals, *(entry for entry, _ in row.pending))


def row_context(row: Row, board: Board) -> dict[str, Any]:
    """What the template of a row is filled with."""
    record = row.entry.record
    flags: list[Flag] = list(legend(row.flags).values())
    return {
        "row": row,
        "board": board,
        "board_path": board_path(board),
        "record": record,
        "headline": headline(record),
        "links": _links(record),
        "facts": _facts(row),
        "flags": flags,
        "checked": CHECKED.get(rerun_of(row.entry), "as its verification says"),
        "picture": picture(row.entry.pictures),
        "has_pictures": row.entry.pictures is not None,
        "plots": _plots(record),
        "tables": [build(record, name) for name in readable(record)],
        "externals": [_external(entry, None) for entry in row.externals] + [_external(*each) for each in row.pending],
        "files": [file for file, _ in _files(row.entry)],
        "settings": list(_flat(record.settings_resolved)),
        "passed": sorted(record.settings_passed.items()),
        "components": list(_components(row)),
        "versions": list(_versions(record)),
        "hashes": list(_hashes(row)),
    }


def _facts(row: Row) -> list[Fact]:
    facts = [Fact("Leakage, worst attack", row.leakage)]
    if row.externals:
        facts.append(Fact("Leakage before external results", row.claimed))
    return [*facts, Fact("Test accuracy", row.accuracy), Fact("Energy, ANN/SNN", row.energy)]


def _links(record: Record) -> tuple[tuple[str, str], ...]:
    submission = record.submission
    names = ("paper", "code", "archive") if submission else ()
    found = ((name, web_link(getattr(submission, name))) for name in names)
    return tuple((name, link) for name, link in found if link is not None)


def _files(entry: Entry) -> Iterator[tuple[File, Path]]:
    offered = (
        ("record, JSON", ".json", entry.path),
        ("raw scores, NumPy npz", ".npz", entry.scores),
        ("what its verification found, JSON", ".verified.json", entry.verification),
    )
    for label, suffix, path in offered:
        if path.is_file():
            yield File(label, slug(entry.hash) + suffix, hashlib.sha256(path.read_bytes()).hexdigest()), path


def _external(entry: Entry, pending: str | None) -> ExternalResult:
    files = tuple(file for file, _ in _files(entry))
    return ExternalResult(entry, pending, _links(entry.record), build(entry.record, "leakage"), files)


def _plots(record: Record) -> list[dict[str, Any]]:
    made = (
        (
            "Accuracy against time-steps",
            figures.accuracy_over_time(record),
            "Test accuracy against the number of time-steps T; dashed, the teacher. Ringed: the T of the audit.",
        ),
        (
            "Spike density per layer",
            figures.spike_density(record),
            "Spikes per neuron and time-step in each layer with neurons, from input to output.",
        ),
        (
            "Training after conversion",
            figures.of_notes(figures.training_curves, record),
            "Training loss per epoch of the spiking network.",
        ),
    )
    return [{"title": title, "svg": Markup(svg), "caption": caption} for title, svg, caption in made if svg]


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """``{'a': {'b': 1}}`` as ``('a.b', '1')``."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _components(row: Row) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """The defense and each attack on it under the first seed: its name, what it is, its settings as resolved."""
    target = row.entry.results()[0]
    yield target.defense, f"{target.summary} ({target.origin})", list(_flat(target.settings))
    for attack in target.attacks:
        lines = list(_flat(attack.settings)) if attack.settings else []
        state = attack.status.replace("-", " ") + (f": {attack.reason}" if attack.reason else "")
        yield attack.attack, f"holds {attack.access}; {state}", lines


def _versions(record: Record) -> Iterator[tuple[str, str]]:
    environment = record.environment
    yield "made", record.created
    yield "snn-privacy-audit", environment.version
    yield "schema of the record", str(record.schema_version)
    yield "suites", ", ".join(record.suites) or "none as a whole"
    yield "Python", f"{environment.python} on {environment.platform}"
    engine = f", {environment.engine}" if environment.engine else ""
    yield "device", f"{environment.device}, {environment.threads} threads{engine}"
    yield "packages", ", ".join(f"{name} {version}" for name, version in environment.packages.items())
    yield "features behind the distances", record.feature_extractor


def _hashes(row: Row) -> Iterator[tuple[str, str]]:
    record = row.entry.record
    yield "code", record.environment.code_hash
    if record.environment.git_revision:
        yield "git revision", record.environment.git_revision
    yield "split of the data", record.dataset.split_hash
    for result, target in zip(record.results, row.entry.results(), strict=True):
        yield f"seed {result.seed}, teacher", result.teacher.hash
        yield f"seed {result.seed}, evaluator", result.evaluator.hash
        if result.second_evaluator is not None:
            yield f"seed {result.seed}, second evaluator", result.second_evaluator.hash
        yield f"seed {result.seed}, target", target.target_hash
