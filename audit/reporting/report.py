"""The report of one run: one HTML page, for a browser, a phone, a printer and a screen reader, without a network."""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from audit.errors import AuditError
from audit.records import AttackResult, Record
from audit.reporting import figures
from audit.reporting.grid import Image, Pictures, grid_of
from audit.reporting.headline import headline

LONGEST_VALUE = 400
# Of more networks the title gives the number.
MOST_NAMED = 4


class ReportCell(Protocol):
    """``main`` is the value as read, or why there is none; ``mark`` is the number of a footnote, or ''."""

    @property
    def main(self) -> str: ...
    @property
    def interval_text(self) -> str: ...
    @property
    def mark(self) -> str: ...
    @property
    def missing(self) -> bool: ...


class ReportColumn(Protocol):
    @property
    def title(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def detail(self) -> str: ...
    @property
    def mark(self) -> str: ...
    @property
    def numeric(self) -> bool: ...


class ReportNote(Protocol):
    @property
    def mark(self) -> str: ...
    @property
    def text(self) -> str: ...


class ReportTable(Protocol):
    """What the page needs of a table; made elsewhere, from the same record."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def columns(self) -> Sequence[ReportColumn]: ...
    @property
    def rows(self) -> Sequence[Sequence[ReportCell]]: ...
    @property
    def footnotes(self) -> Sequence[ReportNote]: ...


def write_report(record: Record, tables: Sequence[ReportTable], pictures: Mapping[str, Pictures], path: Path) -> None:
    """Write the page atomically: the file is whole or absent."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(render_report(record, tables, pictures), encoding="utf-8")
    temporary.replace(path)


def render_report(record: Record, tables: Sequence[ReportTable], pictures: Mapping[str, Pictures]) -> str:
    """The page as text, ``pictures`` by defense. Everything that comes from the record is escaped."""
    if not record.results:
        raise AuditError("the record holds no results; there is nothing to report")
    jinja = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters["duration"] = _duration
    page = jinja.get_template("report.html.jinja")
    images: dict[str, Image] = {}
    return page.render(
        record=record,
        first=record.results[0],
        title=_title(_requested(record)),
        headline=headline(record),
        attacked=any(defense.attacks for result in record.results for defense in result.defenses),
        failures=_failures(record),
        tables=[(table, _heads(table), [_spans(row) for row in table.rows]) for table in tables],
        grids=[grid_of(defense, shown, images) for defense, shown in pictures.items()],
        images=images,
        plots=_plots(record),
        settings=_settings(record),
        components=_components(record),
        total_seconds=sum(stage.wall_seconds for stage in record.stages),
        series=figures.SERIES,
    )


def _requested(record: Record) -> list[str]:
    asked = [d.defense for d in record.results[0].defenses if d.requested]
    return asked or [d.defense for d in record.results[0].defenses]


def _title(requested: Sequence[str]) -> str:
    """What the page is about: the names, as long as they are a few."""
    return ", ".join(requested) if len(requested) <= MOST_NAMED else f"{len(requested)} networks"


def _failures(record: Record) -> list[dict[str, str]]:
    """What was tried and gave no result, with the reason in full: once for all attacks and targets that share it."""
    seeds = [result.seed for result in record.results]
    met: dict[tuple[str, str, str], dict[str, list[int]]] = {}
    for result in record.results:
        for target, attack in _attacks(result.defenses):
            if attack.status != "ok":
                key = (attack.status, attack.reason or "no reason recorded", attack.attack)
                met.setdefault(key, {}).setdefault(target, []).append(result.seed)
    attacks: dict[tuple[str, str, str], list[str]] = {}
    for (status, reason, name), targets in met.items():
        where = ", ".join(target + _under(found, seeds) for target, found in targets.items())
        attacks.setdefault((status, reason, where), []).append(name)
    return [
        {"what": f"{', '.join(names)} on {where}", "status": status.replace("-", " "), "reason": reason}
        for (status, reason, where), names in attacks.items()
    ]


def _under(found: Sequence[int], seeds: Sequence[int]) -> str:
    """' (seed 1)', where it is not so under all."""
    if list(found) == list(seeds):
        return ""
    return f" (seed{'s' * (len(found) > 1)} {', '.join(map(str, found))})"


def _attacks(defenses: Sequence[Any]) -> list[tuple[str, AttackResult]]:
    return [(defense.defense, attack) for defense in defenses for attack in defense.attacks]


def _heads(table: ReportTable) -> list[tuple[str, int, ReportColumn]]:
    """Runs of columns of one family as (family, length, first column); a column without a family stands alone."""
    runs: list[tuple[str, int, ReportColumn]] = []
    for family, columns in groupby(table.columns, key=lambda column: column.family):
        run = list(columns)
        runs += [(family, len(run), run[0])] if family else [("", 1, column) for column in run]
    return runs


def _spans(row: Sequence[ReportCell]) -> list[tuple[ReportCell, int, int]]:
    """(cell, its column, columns that it spans): what is missing for one reason in several columns is said once."""
    spans = []
    places = enumerate(row)
    for key, run in groupby(places, key=lambda item: (item[1].main, item[1].mark) if item[1].missing else item[0]):
        cells = list(run)
        spans.append((cells[0][1], cells[0][0], len(cells) if isinstance(key, tuple) else 1))
    return spans


def _plots(record: Record) -> list[dict[str, Any]]:
    """Every plot with its caption, or with why there is none."""
    several = len(record.results) > 1
    band = "the range over the seeds" if several else "the measurements' intervals"
    seeds = f", mean over {len(record.results)} seeds" if several else ""
    made = (
        (
            "Accuracy against time-steps",
            figures.accuracy_over_time(record),
            f"Test accuracy of each target against the number of time-steps T{seeds}; dashed, the teacher. Shaded: "
            f"{band}. Ringed: the T that the target was audited with.",
            "No accuracy against T: no target of this run is spiking, or none was measured at more than one T.",
        ),
        (
            "Spike density per layer",
            figures.spike_density(record),
            f"Spikes per neuron and time-step in each layer with neurons, from input to output{seeds}. "
            "The last layer has no threshold and does not spike.",
            "No spike density: the energy of no target was measured, or no target is spiking.",
        ),
        (
            "Training after conversion",
            figures.of_notes(figures.training_curves, record),
            "Training loss per epoch, of every defense that trains the spiking network.",
            "No training curve: no defense of this run trained the spiking network, or recorded its loss.",
        ),
    )
    return [
        {"title": title, "svg": Markup(svg) if svg else None, "caption": caption if svg else absent}
        for title, svg, caption, absent in made
    ]


def _settings(record: Record) -> list[dict[str, str]]:
    resolved = _flat(record.settings_resolved)
    names = list(dict.fromkeys([*resolved, *record.settings_passed]))
    return [
        {"name": name, "resolved": resolved.get(name, ""), "passed": record.settings_passed.get(name, "")}
        for name in names
    ]


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """``{'a': {'b': 1}}`` as ``{'a.b': '1'}``."""
    if isinstance(value, dict) and value:
        return {
            name: text
            for key, item in value.items()
            for name, text in _flat(item, f"{prefix}.{key}" if prefix else str(key)).items()
        }
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return {prefix: text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + " … (whole in record.json)"}


def _components(record: Record) -> list[dict[str, Any]]:
    """Each defense of the first seed, its attacks, and what they noted, as flat name and value."""
    return [
        {
            "name": d.defense,
            "summary": d.summary,
            "lines": [
                ("code", d.origin),
                ("access to private data", d.data_access.replace("-", " ")),
                ("weights of the target, sha256", d.target_hash),
                *_flat(d.settings).items(),
                *((f"noted: {name}", text) for name, text in _flat(d.notes).items() if name),
                *(
                    (f"{attack.attack}: {name}", text)
                    for attack in d.attacks
                    for name, text in {**_flat(attack.settings), **_flat(attack.notes, "noted")}.items()
                    if text != "{}"
                ),
            ],
        }
        for d in record.results[0].defenses
    ]


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
