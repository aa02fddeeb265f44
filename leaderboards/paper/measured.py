"""What every layout of the paper takes from a record, and the reason in a cell that has nothing to take."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from audit.records import DefenseResult, Record
from leaderboards.cells import Cell, Column, Footnotes, Number, Table, Words, over_seeds
from leaderboards.lookups import each_defense, no_defense, seeds_of
from leaderboards.paper.published import Published
from leaderboards.said import Said

Targets = list[DefenseResult | None]
"""One target under each seed."""

# What ships the ANN itself: it is the teacher, whether it was audited or not.
ANN = "none"
NOT_IN_THE_PAPER = "not in the paper"
NOT_IN_THE_TABLE = "not in this table"
ACCURACY = Column("accuracy, measured", "measured", "fraction", "higher is better")


@dataclass(frozen=True)
class Options:
    """``leakage_threshold``: on the scale from 0, an untrained network, to 1, real images; below it, class leakage
    counts as addressed. ``pictures``: per record and defense, where its reconstructions can be seen.
    """

    leakage_threshold: float = 0.1
    pictures: Sequence[Mapping[str, str]] = ()


def targets_of(record: Record, defense: str) -> Targets | None:
    return dict(each_defense(record)).get(defense)


def accuracy_of(record: Record, defense: str) -> Cell:
    """Over the seeds; words where the run lacks the defense."""
    return measured(record, defense, lambda target: Number.of(target.accuracy), "fraction")


def teacher_accuracy(record: Record) -> Number:
    return over_seeds([Number.of(result.teacher.accuracy) for result in record.results], seeds_of(record))


def measured(record: Record, defense: str, read: Callable[[DefenseResult], Number], unit: str) -> Cell:
    """What ``read`` finds under every seed, as one cell; words where the run lacks the defense."""
    targets = targets_of(record, defense)
    if targets is None:
        return not_run(f"--defense {defense}")
    return over_seeds([no_defense(unit) if t is None else read(t) for t in targets], seeds_of(record))


def not_run(option: str = "") -> Words:
    """With the option that would run it; without, in a row that has said it already."""
    return Words(f"not run: {option}" if option else "not run", missing=True)


def method_of(record: Record, paper: Published, defense: str) -> Words:
    """A defense that no row of the layout is about, as the paper calls it where it does."""
    if defense == ANN:
        return Words(f"teacher ({record.results[0].teacher.architecture})")
    return Words(paper.name_of(defense))


def printed(said: Said) -> Words:
    return Words(said.shown)


def unpublished(paper: Published, defense: str) -> Words:
    return Words(NOT_IN_THE_TABLE if paper.has(defense) else NOT_IN_THE_PAPER, missing=True)


def in_the_paper(title: str, paper: Published, published_on: str, record: Record) -> str:
    """A column's title; it names the data set where the record has another."""
    if record.dataset.name == published_on:
        return f"{title}, paper"
    return f"{title}, {paper.setups[published_on].name} in the paper"


def finished(
    name: str,
    title: str,
    columns: Sequence[Column],
    rows: Sequence[tuple[Cell, ...]],
    notes: Footnotes,
    remarks: Sequence[str],
) -> Table:
    explained = [tuple(_explained(cell) for cell in row) for row in rows]
    heads, marked = notes.collect(tuple(columns), explained)
    return Table(name, title, heads, marked, notes.all(*remarks))


def _explained(cell: Cell) -> Cell:
    """A value without an interval says why it has none."""
    if isinstance(cell, Words) or cell.value is None or cell.interval_text:
        return cell
    why = f"No interval: {cell.interval or 'none was measured'}"
    return replace(cell, reason=f"{cell.reason}. {why}" if cell.reason else why)


def subject(record: Record) -> str:
    """'vgg9 on cifar10, profile small', as the other tables are titled."""
    return f"{record.results[0].teacher.architecture} on {record.dataset.name}, profile {record.profile}"


def intervals(record: Record) -> str:
    seeds = seeds_of(record)
    if len(seeds) == 1:
        return (
            f"Measured: one seed ({seeds[0]}); intervals, where there are any, are those of the measurement and say "
            "nothing of another run. The paper prints no interval."
        )
    return (
        f"Measured: mean over {len(seeds)} seeds ({', '.join(map(str, seeds))}) with a Student t 95 % interval over "
        "the seeds; what one seed lacks is not averaged over the others. The paper prints no interval."
    )
