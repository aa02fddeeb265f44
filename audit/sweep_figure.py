"""What a sweep shows: the paper's figure where it has one, a table of every network at every value, and the lines."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from audit.errors import AuditError
from audit.metrics.energy import HEADLINE
from audit.records import DefenseResult, Record
from audit.reporting.lines import Line, Scale, draw_lines
from audit.sweep import Sweep, Value, shown
from leaderboards.cells import Cell, Column, Footnote, Footnotes, Number, Table, Words, drop_in_points, over_seeds
from leaderboards.lookups import access_of, each_defense, energy_columns, energy_of, no_defense, seeds_of, time_steps_of
from leaderboards.paper import build
from leaderboards.rendering import Format, render

LAYOUTS: Mapping[str, str] = {"defense.time_steps": "figure-5a", "defense.synthetic_images": "figure-5b"}
TITLES: Mapping[str, str] = {"time_steps": "time-steps T", "synthetic_images": "synthetic images"}
TABLE = "sweep"
Run = tuple[Value, Record]


def tables_of(sweep: Sweep, records: Sequence[Record]) -> dict[str, Table]:
    """By the name of its files, the best to read first: the paper's figure where there is one, and everything."""
    runs = _in_order(sweep, records)
    found = {TABLE: sweep_table(sweep, runs)}
    if sweep.key in LAYOUTS:
        layout = LAYOUTS[sweep.key]
        made = build(layout, [record for _, record in runs])
        found = {layout if not i else f"{layout}-{i + 1}": table for i, table in enumerate(made)} | found
    versions = len({record.environment.code_hash for record in records})
    if versions == 1:
        return found
    mixed = Footnote("", f"The runs were made by {versions} versions of the code, which may account for a difference.")
    return {name: replace(table, footnotes=(*table.footnotes, mixed)) for name, table in found.items()}


def write_figure(sweep: Sweep, records: Sequence[Record], tables: Mapping[str, Table]) -> Path:
    """Write each of ``tables`` in every format, and the plot, named as the first of them; return the plot's path."""
    plot = sweep.out / f"{next(iter(tables))}.png"
    try:
        for name, table in tables.items():
            for format in get_args(Format):
                temporary = sweep.out / f".{name}.{format}"
                temporary.write_text(render(table, format), encoding="utf-8")
                temporary.replace(sweep.out / f"{name}.{format}")
        temporary = plot.with_name(f".{plot.name}")
        _draw(sweep, _in_order(sweep, records), temporary)
        temporary.replace(plot)
    except OSError as error:
        raise AuditError(f"cannot write the figure to {sweep.out}: {error.strerror or error}") from error
    return plot


def sweep_table(sweep: Sweep, runs: Sequence[Run]) -> Table:
    """A row for every value and network: accuracy, what it lost against the teacher, energy."""
    record = runs[0][1]
    energies = [column for column in energy_columns(record) if column.full_title == HEADLINE]
    columns = (
        Column(sweep.name, "count" if _numbers(runs) else "words"),
        Column("network"),
        Column("access to private data"),
        Column("T", "count", "time-steps"),
        Column("test accuracy", "measured", "fraction", "higher is better"),
        Column("drop against the teacher", "measured", "points", "lower is better"),
        *energies,
    )
    rows: list[tuple[Cell, ...]] = []
    for value, record in runs:
        seeds = seeds_of(record)
        teachers = [Number.of(result.teacher.accuracy) for result in record.results]
        for name, defenses in each_defense(record):
            numbers = [_accuracy(defense) for defense in defenses]
            drops = [drop_in_points(*pair) for pair in zip(teachers, numbers, strict=True)]
            head = (shown(value), name, access_of(defenses), time_steps_of(defenses))
            spent = [over_seeds([energy_of(d, column) for d in defenses], seeds) for column in energies]
            rows.append((*map(Words, head), over_seeds(numbers, seeds), over_seeds(drops, seeds), *spent))
    notes = Footnotes()
    heads, marked = notes.collect(columns, rows)
    title = f"Accuracy against {sweep.name}: {record.results[0].teacher.architecture} on {record.dataset.name}"
    remarks = (
        f"{len(runs)} runs, one for each value of {sweep.key}, on the same teacher where the setting is not its own.",
        f"Intervals: {_interval(runs)}. Values are not corrected for looking at several of them.",
    )
    return Table(TABLE, f"{title}, profile {record.profile}", heads, marked, notes.all(*remarks))


def _draw(sweep: Sweep, runs: Sequence[Run], path: Path) -> None:
    places = [float(value) for value, _ in runs] if _numbers(runs) else [float(i) for i in range(len(runs))]  # type: ignore[arg-type]
    networks: dict[str, list[tuple[float, float, float | None, float | None]]] = {}
    teacher = []
    for place, (_, record) in zip(places, runs, strict=True):
        seeds = seeds_of(record)
        level = over_seeds([Number.of(result.teacher.accuracy) for result in record.results], seeds)
        if level.value is not None:
            teacher.append((place, 100 * level.value, None, None))
        for name, defenses in each_defense(record):
            n = over_seeds([_accuracy(defense) for defense in defenses], seeds)
            if n.value is not None:
                low, high = (None if end is None else 100 * end for end in (n.low, n.high))
                networks.setdefault(name, []).append((place, 100 * n.value, low, high))
    lines = [Line(name, points) for name, points in networks.items()]
    scale = Scale(TITLES.get(sweep.name, sweep.name), places, [shown(value) for value, _ in runs])
    draw_lines(lines, Line("teacher (ANN)", teacher), scale, "test accuracy, %", f"bars: {_interval(runs)}", path)


def _in_order(sweep: Sweep, records: Sequence[Record]) -> list[Run]:
    """Numbers by their size, words as they were given."""
    runs = [(point.value, record) for point, record in zip(sweep.points, records, strict=True)]
    return sorted(runs, key=lambda run: run[0]) if _numbers(runs) else runs  # type: ignore[arg-type,return-value]


def _numbers(runs: Sequence[Run]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value, _ in runs)


def _accuracy(defense: DefenseResult | None) -> Number:
    return Number.of(defense.accuracy) if defense is not None else no_defense("fraction")


def _interval(runs: Sequence[Run]) -> str:
    """What the intervals are, in words; runs of one sweep have the same seeds."""
    record = runs[0][1]
    seeds = len(record.results)
    kinds = {m.interval for r in record.results for d in r.defenses if (m := d.accuracy).interval}
    return f"Student t 95 % over {seeds} seeds" if seeds > 1 else f"{', '.join(sorted(kinds)) or 'none'}, one seed"
