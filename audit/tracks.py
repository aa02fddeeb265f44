"""A track: the runs of a grid, each an ordinary one, and the reason of every place of the grid that has none."""

from contextlib import closing
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

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


def plan(name: str, base: Request, asked: str, over: str, out: Path) -> Planned:
    """The grid of track ``name`` around ``base``; ``over`` adds an axis, 'setting=value,value', as of a sweep.

    Raises AuditError for what the grid goes over and is passed as well, and for a bad ``over``. A value of the grid
    that a defense does not take is a place with that reason.
    """
    track = track_of(name)
    before, after = chosen(track, asked)
    for key in base.settings.passed:
        if key.partition(".")[2] in ("coding", BITS) or key in track.settings:
            raise AuditError(f"--set {key}: the track goes over it; run what you mean by --defense and --attack")
    every = tuple({component.name: component for component in (*before, *after)}.values())
    base = replace(base, defenses=every, baselines=False)
    key, texts = parsed(over, base) if over else ("", [""])
    points: list[Point] = []
    places: list[Place] = []
    for text, coding, bits in product(texts, track.codings, track.bits):
        place = Place(coding, bits, {key.removeprefix("defense."): text} if over else {})
        defenses = [c for c in (before if bits is None else after) if "coding" in c.fields]
        if not defenses:
            places.append(replace(place, reason=_why_not(track, bits, asked)))
            continue
        others = {component.name for component in every} - {component.name for component in defenses}
        passed = {k: v for k, v in base.settings.passed.items() if k.partition(".")[0] not in others}
        passed |= {**track.settings, "defense.coding": coding, **({key: text} if over else {})}
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
