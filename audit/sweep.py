"""One setting over several values: an ordinary run for each, in a folder of its own, and all of them on one store."""

import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from audit.contracts import Monitor
from audit.errors import AuditError
from audit.output import claim, write_run
from audit.pipeline import prepare_data
from audit.records import AttackResult, DefenseResult, Record
from audit.registry import Component, unknown
from audit.request import Request, check_settings
from audit.run import environment, plain, run
from audit.settings import GROUPS, WORD, Settings
from audit.store import Store

log = logging.getLogger(__name__)

Value = bool | int | float | str | None
# The paper's words for settings of ours.
ALIASES: Mapping[str, str] = {"synthetic_samples": "synthetic_images"}
OVER = re.compile(r"([\w-]+\.)?([\w-]+)=(.+)")


@dataclass(frozen=True)
class Point:
    """One value, as it was resolved, the run that has it, and the folder that the run is written to."""

    value: Value
    request: Request
    folder: Path


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
    matched = OVER.fullmatch(over)
    if matched is None:
        raise AuditError(f"--over {over}: write it as setting=value,value, for example --over time_steps=16,32,64")
    group, field, texts = (matched[1] or "").rstrip("."), matched[2], matched[3].split(",")
    key = f"{group}.{ALIASES.get(field, field)}" if group else _of_a_defense(field, base)
    _check_not_passed(key, base)
    name = key.removeprefix("defense.")
    points: dict[Value, Point] = {}
    for text in map(str.strip, texts):
        settings = Settings(base.settings.profile, {**base.settings.passed, key: text})
        request = replace(base, settings=settings)
        check_settings(request)
        value = _resolved(key, request)
        if value in points:
            raise AuditError(f"--over {name}: the value {shown(value)} is given twice")
        points[value] = Point(value, request, out / f"{name}-{shown(value)}")
    return Sweep(key, name, tuple(points.values()), out)


def carry_out(sweep: Sweep, store: Store, monitor: Monitor) -> list[Record]:
    """The records of all points, in their order; a point whose folder holds its run already is read.

    Raises AuditError before anything is run where a folder holds something else, and names the point where one fails.
    """
    kept = _kept(sweep)
    code = environment(sweep.points[0].request.device).code_hash
    for point, record in zip(sweep.points, kept, strict=True):
        if record is not None and record.environment.code_hash != code:
            log.warning("%s was made by another version of the code; remove it to make it again", point.folder)
    records = []
    with monitor.steps(f"sweep over {sweep.name}", len(sweep.points)) as advance:
        for point, record in zip(sweep.points, kept, strict=True):
            records.append(record or _run(sweep, point, store, monitor))
            advance()
    return records


def _run(sweep: Sweep, point: Point, store: Store, monitor: Monitor) -> Record:
    where = f"{sweep.name} = {shown(point.value)}"
    try:
        with monitor.steps(where, 1):
            finished = run(point.request, store, monitor)
        write_run(finished, point.folder)
    except AuditError as error:
        raise AuditError(f"at {where}: {error}") from error
    return finished.record


def _kept(sweep: Sweep) -> list[Record | None]:
    """By point, the record that its folder holds. Raises AuditError where that is not of this request."""
    if (sweep.out / "record.json").exists():
        raise AuditError(f"--out {sweep.out} holds a run, which is no sweep; choose another folder")
    records = [_found(point.folder) for point in sweep.points]
    splits: dict[Any, str] = {}
    for point, record in zip(sweep.points, records, strict=True):
        if record is None:
            continue
        data = point.request.settings.group("data")
        if data not in splits:
            splits[data] = prepare_data(point.request.dataset, point.request.data_root, data).split_hash
        asked, found = {**_asked(point.request), "split of the data": splits[data]}, _described(record)
        for what in (*asked, *found):
            if asked.get(what) != found.get(what):
                raise AuditError(
                    f"{point.folder} holds the run of another request ({what}: {found.get(what)!r} there, "
                    f"{asked.get(what)!r} here); choose another --out, or remove it"
                )
    return records


def _found(folder: Path) -> Record | None:
    path = folder / "record.json"
    if path.exists():
        return Record.read(path)
    claim(folder)
    return None


def _asked(request: Request) -> dict[str, Any]:
    """What makes a request this one, flat, by what it is called; all but where the data lie."""
    settings = request.settings
    asked: dict[str, Any] = {
        "data set": request.dataset,
        "teacher": request.model,
        "profile": request.profile,
        "seeds": request.seeds,
        "defenses": [component.name for component in request.compared],
        "audited defenses": [c.name for c in request.compared if c in request.defenses],
        "attacks": [component.label for component in request.attacks],
    }
    for group in GROUPS:
        asked |= _flat(group, asdict(settings.group(group)))
    components: list[Component[Any]] = [*request.compared, *request.attacks]
    for component in components:
        asked |= _flat(component.label, asdict(settings.build(component)))
    return plain(asked)


def _described(record: Record) -> dict[str, Any]:
    """The same of the request that a record is of."""
    first = record.results[0]
    attacks: tuple[AttackResult, ...] = first.defenses[0].attacks
    parts: tuple[DefenseResult | AttackResult, ...] = (*first.defenses, *attacks)
    described: dict[str, Any] = {
        "data set": record.dataset.name,
        "teacher": first.teacher.architecture,
        "profile": record.profile,
        "seeds": [result.seed for result in record.results],
        "defenses": [defense.defense for defense in first.defenses],
        "audited defenses": [defense.defense for defense in first.defenses if defense.requested],
        "attacks": [attack.attack for attack in attacks],
        "split of the data": record.dataset.split_hash,
    }
    for group, values in record.settings_resolved.items():
        described |= _flat(group, values)
    for part in parts:
        described |= _flat(part.defense if isinstance(part, DefenseResult) else part.attack, part.settings)
    return plain(described)


def _flat(owner: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{owner}.{name}": value for name, value in values.items()}


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
