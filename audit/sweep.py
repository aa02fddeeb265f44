"""One setting over several values: a run for each, as a series."""

import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from audit import series
from audit.contracts import Monitor
from audit.errors import AuditError
from audit.records import Record
from audit.registry import Component, unknown
from audit.request import Request, check_settings
from audit.series import outcomes
from audit.settings import GROUPS, WORD, Settings
from audit.store import Store
from audit.workers import Workers

Value = bool | int | float | str | None
# The paper's words for settings of ours.
ALIASES: Mapping[str, str] = {"synthetic_samples": "synthetic_images"}
OVER = re.compile(r"([\w-]+\.)?([\w-]+)=(.+)")


@dataclass(frozen=True)
class Point(series.Point):
    """The run at one value, as it was resolved."""

    value: Value


@dataclass(frozen=True)
class Sweep:
    """``key`` is 'group.field', ``name`` what it is called: the field alone where it reaches every defense.

    ``out`` holds the folders of the points, and the figure beside them.
    """

    key: str
    name: str
    points: tuple[Point, ...]
    out: Path


def plan(over: str, base: Request, out: Path) -> Sweep:
    """The points of 'setting=value,value' around ``base``.

    ``setting`` is a field of one of the defenses that run, or any 'group.field'. Raises AuditError for a text of
    another form, a setting that nothing in the run has or that is passed as well, a value that it does not take, and a
    value that comes twice.
    """
    key, texts = parsed(over, base)
    name = key.removeprefix("defense.")
    points: dict[Value, Point] = {}
    for text in texts:
        settings = Settings(base.settings.profile, {**base.settings.passed, key: text})
        request = replace(base, settings=settings)
        check_settings(request)
        value = _resolved(key, request)
        if value in points:
            raise AuditError(f"--over {name}: the value {shown(value)} is given twice")
        title = f"{name} = {shown(value)}"
        points[value] = Point(title, request, out / f"{name}-{shown(value)}", value)
    return Sweep(key, name, tuple(points.values()), out)


def parsed(over: str, base: Request) -> tuple[str, list[str]]:
    """'group.field' and the values, as text, of 'setting=value,value'. Raises AuditError as `plan` does."""
    matched = OVER.fullmatch(over)
    if matched is None:
        raise AuditError(f"--over {over}: write it as setting=value,value, for example --over time_steps=16,32,64")
    group, field, texts = (matched[1] or "").rstrip("."), matched[2], matched[3].split(",")
    key = f"{group}.{ALIASES.get(field, field)}" if group else _of_a_defense(field, base)
    _check_not_passed(key, base)
    return key, [text.strip() for text in texts]


def carry_out(sweep: Sweep, store: Store, monitor: Monitor, workers: Workers | None = None) -> list[Record]:
    """The records of all points, in their order; a point whose folder holds its run already is read.

    Raises AuditError before anything is run where a folder holds something else, and names the point where one fails.
    """
    records: list[Record] = []
    with closing(outcomes(f"sweep over {sweep.name}", sweep.points, sweep.out, store, monitor, workers)) as found:
        for outcome in found:
            if isinstance(outcome, AuditError):
                raise outcome
            records.append(outcome)
    return records


def _of_a_defense(field: str, request: Request) -> str:
    """The key under which --set reaches this field of every defense that has it."""
    name = ALIASES.get(field, field)
    known = {known for component in request.compared for known in component.fields}
    if name not in known:
        words = known | {alias for alias, own in ALIASES.items() if own in known}
        raise unknown("setting", field, words, "python -m audit list --settings")
    return f"defense.{name}"


def _check_not_passed(key: str, request: Request) -> None:
    """Refuses an option for the same setting, and one for a component alone: it would hold at every point."""
    group, field = key.split(".")
    nearer = [component.name for component in _components(request) if component.kind == group]
    for own in (group, *nearer):
        if f"{own}.{field}" in request.settings.passed:
            raise AuditError(f"pass --over {key} or --set {own}.{field}, not both")


def _resolved(key: str, request: Request) -> Value:
    """The value that the setting has in this request. Raises AuditError where it is no number, word or truth value."""
    group, field = key.split(".")
    if group in GROUPS:
        value = getattr(request.settings.group(group), field)
    else:
        owner = next(c for c in _components(request) if group in (c.kind, c.name) and field in c.fields)
        value = getattr(request.settings.build(owner), field)
    if isinstance(value, str) and WORD.fullmatch(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise AuditError(f"--over {key}: a sweep goes over numbers, words and truth values, not over {value!r}")


def _components(request: Request) -> list[Component[Any]]:
    return [*request.defenses, *request.compared, *request.attacks]


def shown(value: Value) -> str:
    """As --set takes it."""
    return "none" if value is None else str(value)
