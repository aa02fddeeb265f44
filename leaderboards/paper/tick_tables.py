"""Tables 1 and 3: which leakage is addressed, as the paper says and as it was measured."""

from collections.abc import Sequence

from audit.records import Record
from leaderboards.cells import Cell, Column, Footnotes, Table, Words
from leaderboards.leakage import LEAKAGE
from leaderboards.lookups import each_defense, samples_of
from leaderboards.paper.judgement import DATA, data_leakage, judge, rule
from leaderboards.paper.measured import (
    ACCURACY,
    Options,
    accuracy_of,
    finished,
    in_the_paper,
    intervals,
    method_of,
    not_run,
    printed,
    subject,
    targets_of,
    unpublished,
)
from leaderboards.paper.published import Published
from leaderboards.paper.setup import differences

WORST = Column("leakage, worst attack", LEAKAGE.kind, LEAKAGE.unit, LEAKAGE.direction)


def table_1(records: Sequence[Record], paper: Published, options: Options) -> list[Table]:
    """A row per system: two of a family may come out differently, so the family has no tick of its own."""
    return [_table_1(record, paper, options.leakage_threshold) for record in records]


def table_3(records: Sequence[Record], paper: Published, options: Options) -> list[Table]:
    """The three steps of the method; another defense is no ablation of it and has no row."""
    return [_table_3(record, paper, options.leakage_threshold) for record in records]


def _table_1(record: Record, paper: Published, threshold: float) -> Table:
    said = paper.table_1
    rows: list[tuple[Cell, ...]] = []
    listed = set()
    for row in said.rows:
        for system in row.systems:
            defense = paper.defense_of(system)
            listed.add(defense)
            data, leakage, tick = _ticks(record, defense, threshold)
            own = paper.systems[system].name
            name = Words(own if own == row.group else f"{row.group}: {own}")
            rows.append((name, Words(defense), Words(row.data_leakage), data, Words(row.class_leakage), tick, leakage))
    for defense, _ in each_defense(record):
        if defense not in listed:
            data, leakage, tick = _ticks(record, defense, threshold)
            nothing = unpublished(paper, defense)
            name = method_of(record, paper, defense)
            rows.append((name, Words(defense), nothing, data, nothing, tick, leakage))
    columns = (
        Column("method"),
        Column("defense"),
        Column(in_the_paper("data leakage", paper, said.dataset, record)),
        Column("data leakage, measured"),
        Column(in_the_paper("class leakage", paper, said.dataset, record)),
        Column("class leakage, measured"),
        WORST,
    )
    remarks = (
        rule(threshold),
        DATA,
        "Every system has a row of its own: the paper's tick stands for its family.",
        f"Published: {said.source}. {' '.join(f'{row.group}: “{row.quote}”.' for row in said.rows)}",
        intervals(record),
        *differences([record], paper, said.dataset),
    )
    title = f"Table 1 of the PrivateSNN paper, related work: {subject(record)}"
    return finished("paper-table-1", title, columns, rows, Footnotes(), remarks)


def _table_3(record: Record, paper: Published, threshold: float) -> Table:
    said = paper.table_3
    rows: list[tuple[Cell, ...]] = []
    for row in said.rows:
        defense = paper.defense_of(row.system)
        data, leakage, tick = _ticks(record, defense, threshold)
        targets = targets_of(record, defense)
        samples = samples_of(targets) if targets is not None else not_run()
        rows.append(
            (
                Words(f"{row.method}: {defense}"),
                Words(row.data_leakage),
                data,
                Words(row.class_leakage),
                tick,
                leakage,
                Words(row.samples),
                samples,
                printed(row.accuracy),
                accuracy_of(record, defense),
            )
        )

    def column(title: str, unit: str = "") -> Column:
        return Column(in_the_paper(title, paper, said.dataset, record), "count" if unit else "words", unit)

    columns = (
        Column("method"),
        column("data leakage"),
        Column("data leakage, measured"),
        column("class leakage"),
        Column("class leakage, measured"),
        WORST,
        column("training samples", "images"),
        Column("training samples, measured", "count", "images"),
        column("accuracy", "%"),
        ACCURACY,
    )
    remarks = (
        rule(threshold),
        DATA,
        f"Published: {said.source}. "
        + " ".join(f"{row.method}: {_quoted(row.quotes)} ({row.where})." for row in said.rows),
        "DC: data-free conversion. CET: class encryption training. OD: on-device distillation. All three: PrivateSNN.",
        intervals(record),
        *differences([record], paper, said.dataset),
    )
    title = f"Table 3 of the PrivateSNN paper, ablation: {subject(record)}"
    return finished("paper-table-3", title, columns, rows, Footnotes(), remarks)


def _quoted(quotes: Sequence[str]) -> str:
    return ", ".join(f"“{quote}”" for quote in quotes)


def _ticks(record: Record, defense: str, threshold: float) -> tuple[Cell, Cell, Cell]:
    """Data leakage, the worst attack's leakage, class leakage."""
    targets = targets_of(record, defense)
    if targets is None:
        return not_run(f"--defense {defense}"), not_run(), not_run()
    judged = judge(record, targets, threshold)
    return data_leakage(targets), judged.leakage, judged.class_leakage
