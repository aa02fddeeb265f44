"""Several runs that belong together: each an ordinary run in a folder of its own, and all of them on one store."""

import logging
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from audit.contracts import Monitor
from audit.errors import AuditError
from audit.output import claim, write_run
from audit.pipeline import prepare_data
from audit.records import AttackResult, DefenseResult, Record, StageInfo
from audit.registry import Component
from audit.request import Request
from audit.run import environment, plain, run
from audit.settings import GROUPS
from audit.store import Store
from audit.workers import Workers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Point:
    """One of the runs: what is said of it, the request, and the folder that it is written to."""

    title: str
    request: Request
    folder: Path


def outcomes(
    what: str, points: Sequence[Point], out: Path, store: Store, monitor: Monitor, workers: Workers | None = None
) -> Generator[Record | AuditError]:
    """Of each point in order its record, or what ended it; one whose folder holds its run already is read.

    ``what``: 'sweep over time_steps', as the display and messages call the whole. Raises AuditError before anything is
    run where a folder holds something else.
    """
    kept = _kept(what, points, out)
    code = environment(points[0].request.device).code_hash
    for point, record in zip(points, kept, strict=True):
        if record is not None and record.environment.code_hash != code:
            log.warning("%s was made by another version of the code; remove it to make it again", point.folder)
    missing = [point for point, record in zip(points, kept, strict=True) if record is None]
    made = workers.spread([point.request for point in missing], monitor) if workers else [[] for _ in missing]
    elsewhere = {point.folder: stages for point, stages in zip(missing, made, strict=True)}
    with monitor.steps(what, len(points)) as advance:
        for point, record in zip(points, kept, strict=True):
            yield record or _run(point, store, monitor, elsewhere[point.folder])
            advance()


def _run(point: Point, store: Store, monitor: Monitor, elsewhere: Sequence[StageInfo]) -> Record | AuditError:
    try:
        with monitor.steps(point.title, 1):
            finished = run(point.request, store, monitor, elsewhere)
        write_run(finished, point.folder)
    except AuditError as error:
        return AuditError(f"at {point.title}: {error}")
    return finished.record


def _kept(what: str, points: Sequence[Point], out: Path) -> list[Record | None]:
    """By point, the record that its folder holds. Raises AuditError where that is not of this request."""
    if (out / "record.json").exists():
        raise AuditError(f"--out {out} holds a run, which is no {what.split()[0]}; choose another folder")
    records = [_found(point.folder) for point in points]
    splits: dict[Any, str] = {}
    for point, record in zip(points, records, strict=True):
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
