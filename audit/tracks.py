"""A track: the runs of a grid, each an ordinary one, and the reason of every place of the grid that has none."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from audit import series
from audit.contracts import Defense, Monitor
from audit.errors import AuditError
from audit.records import Record
from audit.registry import DEFENSES, Component, unknown
from audit.request import Request, check_settings
from audit.series import outcomes
from audit.settings import Settings
from audit.store import Store
from audit.suites import TRACKS, Track
from audit.sweep import parsed
from audit.workers import Workers
from leaderboards.tracks import Place

BITS = "bits"


@dataclass(frozen=True)
class Point(series.Point):
    """The run at one place of the grid."""

    place: Place


@dataclass(frozen=True)
class Planned:
    """``points`` run; ``absent`` places have a reason already. ``places``: all of them, in order. ``out`` holds the
    folders of the points, and the tables beside them."""

    name: str
    points: tuple[Point, ...]
    places: tuple[Place, ...]
    out: Path

    @property
    def absent(self) -> tuple[Place, ...]:
        return tuple(place for place in self.places if place.reason)


def track_of(name: str) -> Track:
    """Raises AuditError with a suggestion for an unknown one."""
    if name not in TRACKS:
        raise unknown("track", name, TRACKS, "python -m audit list")
    return TRACKS[name]


def chosen(track: Track, asked: str) -> tuple[list[Component[Defense]], list[Component[Defense]]]:
    """What stands for the network before and after quantisation: of ``asked``, '' for the track's own.

    A defense with a setting 'bits' is both, without bits and with them; another one is full precision.
    """
    if asked:
        components = DEFENSES.select(asked)
        return components, [component for component in components if BITS in component.fields]
    known = DEFENSES.names()
    first, second = ([name for name in names if name in known][:1] for names in (track.before, track.after))
    return [DEFENSES.get(name) for name in first], [DEFENSES.get(name) for name in second]


def plan(name: str, base: Request, asked: str, overs: Sequence[str], out: Path) -> Planned:
    """The grid of track ``name`` around ``base``; each of ``overs`` adds an axis, 'setting=value,value', as of a sweep.

    'coding' and 'bits' are axes of the track already: there the values are those of it that are run. Raises AuditError
    for what the grid goes over and is passed as well, and for a bad one of ``overs``. A value of the grid that a
    defense does not take is a place with that reason.
    """
    track = track_of(name)
    before, after = chosen(track, asked)
    for key in base.settings.passed:
        if key.partition(".")[2] in ("coding", BITS) or key in track.settings:
            raise AuditError(f"--set {key}: the track goes over it; run what you mean by --defense and --attack")
    every = tuple({component.name: component for component in (*before, *after)}.values())
    base = replace(base, defenses=every, baselines=False)
    axes, others = _axes(track, overs, base)
    defaults = {key: text for key, text in track.by_profile.get(base.profile, {}).items() if key not in others}
    base = replace(base, settings=Settings(base.settings.profile, {**defaults, **base.settings.passed}))
    points: list[Point] = []
    places: list[Place] = []
    for *texts, coding, bits in product(*others.values(), axes["coding"], axes[BITS]):
        more = dict(zip(others, texts, strict=True))
        place = Place(coding, bits, {key.removeprefix("defense."): text for key, text in more.items()})
        defenses = [c for c in (before if bits is None else after) if "coding" in c.fields]
        if not defenses:
            places.append(replace(place, reason=_why_not(track, bits, asked)))
            continue
        absent = {component.name for component in every} - {component.name for component in defenses}
        passed = {k: v for k, v in base.settings.passed.items() if k.partition(".")[0] not in absent}
        passed |= {**track.settings, "defense.coding": coding, **more}
        passed |= {f"{c.name}.{BITS}": str(bits or "none") for c in defenses if BITS in c.fields}
        request = replace(base, defenses=tuple(defenses), settings=Settings(base.settings.profile, passed))
        try:
            check_settings(request)
        except AuditError as refused:  # by the grid's value: what was passed has been checked before
            places.append(replace(place, reason=str(refused)))
            continue
        places.append(place)
        points.append(Point(place.title, request, out / place.folder, place))
    return Planned(name, tuple(points), tuple(places), out)


def _axes(
    track: Track, overs: Sequence[str], base: Request
) -> tuple[dict[str, tuple[Any, ...]], dict[str, tuple[str, ...]]]:
    """The values of the track's own axes by field, and those of every other axis by 'group.field'."""
    own: dict[str, tuple[Any, ...]] = {"coding": track.codings, BITS: track.bits}
    others: dict[str, tuple[str, ...]] = {}
    for over in overs:
        key, texts = parsed(over, base)
        field = key.partition(".")[2]
        if key in others or len(set(texts)) < len(texts):
            raise AuditError(f"--over {over}: given twice")
        if field not in own:
            others[key] = tuple(texts)
            continue
        known = {str(value or "none"): value for value in own[field]}
        for text in texts:
            if text not in known:
                raise unknown(f"{field} of the track", text, known)
        own[field] = tuple(known[text] for text in texts)
    return own, others


def carry_out(
    planned: Planned, store: Store, monitor: Monitor, workers: Workers | None = None
) -> tuple[list[Record], list[Place]]:
    """The records, and the places without one; a run that fails is such a place, with its reason."""
    records: list[Record] = []
    absent = list(planned.absent)
    title = f"track {planned.name}"
    with closing(outcomes(title, planned.points, planned.out, store, monitor, workers)) as found:
        for point, outcome in zip(planned.points, found, strict=True):
            if isinstance(outcome, AuditError):
                absent.append(replace(point.place, reason=str(outcome).removeprefix(f"at {point.title}: ")))
            else:
                records.append(outcome)
    return records, absent


def _why_not(track: Track, bits: int | None, asked: str) -> str:
    if asked:
        return f"{asked}: no setting 'coding'" + (f" beside one '{BITS}'" if bits else "")
    return f"none of {', '.join(track.after)} is registered here"
