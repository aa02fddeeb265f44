"""A record is one text and one hash; what is no record is refused with the place; earlier schemas are brought along."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.errors import AuditError
from audit.migrations import NAMELESS, migrated
from audit.records import Measurement, Record, Submission
from audit.strict_json import DEEPEST, strict_json
from audit.suites import SUITES
from tests.leaderboards.hostile import altered, leaves, put
from tests.records_factory import hostile_record, record

SCHEMA_1 = Path(__file__).parent / "record-of-schema-1.json"
LINE = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | NUMBER | LINE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LINE, inner, max_size=3),
    max_leaves=8,
)
MEASUREMENTS = st.builds(
    Measurement, name=LINE, value=st.none() | NUMBER, low=st.none() | NUMBER, high=st.none() | NUMBER,
    interval=st.none() | LINE, n=st.integers(0, 2**63 - 1), unit=LINE,
    direction=st.sampled_from(["higher is better", "neutral", "lower means more leakage"]),
    status=st.sampled_from(["ok", "failed", "void"]), reason=st.none() | LINE, unclipped=st.none() | NUMBER,
)  # fmt: skip


@st.composite
def records(draw: st.DrawFn) -> Record:
    """The hand-made record with drawn values in every kind of field: text, numbers, lists, free settings and notes."""
    made = record(draw(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=2, unique=True)))
    settings_, notes = (draw(st.dictionaries(LINE, PLAIN, max_size=3)) for _ in range(2))
    results = []
    for result in made.results:
        attack = (
            result.defenses[0]
            .attacks[0]
            .model_copy(
                update={
                    "attack": draw(LINE),
                    "settings": settings_,
                    "measurements": tuple(draw(st.lists(MEASUREMENTS, max_size=2))),
                    "leakage": draw(st.none() | MEASUREMENTS),
                    "flags": tuple(draw(st.lists(LINE, max_size=2))),
                    "notes": notes,
                }
            )
        )
        first = result.defenses[0].model_copy(update={"attacks": (attack,), "notes": notes, "untrained": (attack,)})
        results.append(result.model_copy(update={"defenses": (first, *result.defenses[1:])}))
    changed = {
        "command": draw(LINE),
        "settings_passed": draw(st.dictionaries(LINE, LINE, max_size=3)),
        "settings_resolved": settings_,
        "results": tuple(results),
        "suites": tuple(draw(st.lists(LINE, max_size=2))),
    }
    return made.model_copy(update=changed)


@given(records())
@settings(max_examples=60, deadline=None)
def test_any_record_is_the_same_after_it_was_written_and_read(made: Record) -> None:
    read = Record.parse(made.text().encode(), "record.json")
    assert read == made
    assert (read.text(), read.hash()) == (made.text(), made.hash())


@given(records(), st.data())
@settings(max_examples=40, deadline=None)
def test_whatever_is_altered_in_a_record_alters_its_hash_or_makes_it_none(made: Record, data: st.DataObject) -> None:
    document = json.loads(made.text())
    path, value = data.draw(st.sampled_from(list(leaves(document))))
    try:
        changed = Record.parse(json.dumps(put(document, path, altered(value))).encode(), "record.json")
    except AuditError:
        return
    assert changed.hash() != made.hash()


def test_a_record_with_hostile_names_keeps_them_as_they_are() -> None:
    made = hostile_record()
    assert Record.parse(made.text().encode(), "record.json") == made


def with_value(*path: str | int, to: Any) -> bytes:
    document = json.loads(record().text())
    inner: Any = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return json.dumps(document).encode()


def nested(depth: int) -> bytes:
    deep = f'"settings_resolved": {{"deep": {"[" * depth}{"]" * depth},'
    return record().text().replace('"settings_resolved": {', deep, 1).encode()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is no record"),
        (b"\xff\xfe{}", "is no record: 'utf-8' codec can't decode"),
        (b"[" * 100_000, "nested deeper than"),
        (nested(DEEPEST + 1), "nested deeper than"),
        (nested(990), "nested deeper than"),
        (record().text().replace('"profile"', '"created": "x", "profile"').encode(), "key 'created' is given twice"),
        (record().text().replace('"value": 0.99', '"value": NaN', 1).encode(), "NaN is no number"),
        (record().text().replace('"value": 0.99', '"value": 1e999', 1).encode(), "the number 1e999 is too large"),
        (record().text().replace('"value": 0.99', '"value": -Infinity', 1).encode(), "-Infinity is no number"),
        (record().text().replace('"threads": 2', f'"threads": {"9" * 5000}').encode(), "the number 9+ is too large"),
        (record().text().replace('"threads": 2', f'"threads": {2**63}').encode(), "the number 9223.* is too large"),
        (with_value("settings_resolved", "odd", to="\ud800"), "surrogates not allowed"),
        (with_value("schema_version", to=3), r"schema_version: Input should be 2"),
        (with_value("schema_version", to=[]), r"schema_version"),
        (with_value("unknown", to=1), r"unknown: Extra inputs"),
        (with_value("results", 0, "defenses", 0, "accuracy", "direction", to="up"), r"results\.0\.defenses\.0\.acc"),
        (with_value("results", 0, "seed", to=None), r"results\.0\.seed: Input should be a valid integer"),
        (with_value("results", to={}), r"results"),
        (b'"text"', "is no record"),
        (b"[1, 2]", "is no record"),
    ],
)  # fmt: skip
def test_what_is_no_record_is_refused_with_what_is_wrong_and_where(content: bytes, reason: str) -> None:
    with pytest.raises(AuditError, match=f"^x.json is no record.*{reason}|^x.json {reason}"):
        Record.parse(content, "x.json")


def test_the_deepest_value_that_is_read_can_be_written_copied_and_hashed_too() -> None:
    made = Record.parse(nested(DEEPEST - 2), "x.json")
    assert Record.parse(made.text().encode(), "x.json").hash() == made.hash()


@given(PLAIN)
@settings(max_examples=60, deadline=None)
def test_plain_json_is_read_as_everybody_reads_it(value: Any) -> None:
    assert strict_json(json.dumps(value).encode()) == value


def test_a_key_given_twice_is_refused_at_any_depth() -> None:
    with pytest.raises(ValueError, match="the key 'b' is given twice"):
        strict_json(b'{"a": [{"b": 1, "b": 1}]}')


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "//evil.org", "https://", "https://a b",
        " https://a", "https://a<b>", "https://a\"onclick='x'",
    ],
)  # fmt: skip
def test_a_link_that_is_no_link_to_a_page_is_refused(link: str) -> None:
    for field in ("paper", "code"):
        with pytest.raises(ValueError, match=field):
            Submission.model_validate({"name": "x", "authors": ["A"], "licence": "MIT", field: link})


def test_a_record_of_schema_1_loses_nothing_on_its_way_to_2() -> None:
    before = json.loads(SCHEMA_1.read_bytes())
    assert before["schema_version"] == 1
    read = Record.read(SCHEMA_1)
    after = json.loads(read.text())
    added = {"schema_version", "suites", "submission", "external"}
    assert _within({k: v for k, v in before.items() if k not in added}, after)
    assert (after["schema_version"], after["submission"], after["external"]) == (2, None, None)
    assert set(read.suites) <= set(SUITES)
    assert Record.parse(read.text().encode(), "again").hash() == read.hash()


def _within(before: Any, after: Any) -> bool:
    """Whether everything of ``before`` is in ``after``, with the same values."""
    if isinstance(before, dict):
        return all(key in after and _within(value, after[key]) for key, value in before.items())
    if isinstance(before, list):
        return len(before) == len(after) and all(map(_within, before, after))
    return bool(before == after)


def test_the_suites_of_a_record_of_schema_1_are_those_whose_attacks_every_defense_went_through() -> None:
    def document(*attacks: tuple[str, ...]) -> dict[str, Any]:
        defenses = [{"attacks": [{"attack": label} for label in labels]} for labels in attacks]
        return {"schema_version": 1, "results": [{"defenses": defenses}]}

    whole = NAMELESS["class-leakage-v1"]
    assert migrated(document(whole, whole))["suites"] == ["class-leakage-v1", "paper-v1"]
    assert migrated(document(whole, whole[:2]))["suites"] == ["paper-v1"]
    assert migrated(document(whole[1:]))["suites"] == []
    assert migrated({"schema_version": 1, "results": []})["suites"] == []


def test_the_names_that_migration_knows_are_those_of_the_suites() -> None:
    for name, labels in NAMELESS.items():
        assert labels == tuple(entry.label for entry in SUITES[name].entries)


@pytest.mark.parametrize(
    "document",
    [
        {"results": 5},
        {"results": [None]},
        {"results": [{"defenses": [{"attacks": [1]}]}]},
        {"results": [{"defenses": [{"attacks": [{"attack": []}]}]}]},
        {"schema_version": {}},
        {"schema_version": True},
    ],
)
def test_a_document_that_only_says_it_is_of_schema_1_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(AuditError, match=r"^x\.json is no record"):
        Record.parse(json.dumps({"schema_version": 1, **document}).encode(), "x.json")


def test_a_record_of_today_is_migrated_to_itself() -> None:
    document = json.loads(record().text())
    assert migrated(document) is document
