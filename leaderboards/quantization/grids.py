"""Tables 1 to 3: accuracy lost to FGSM, and spikes, before and after quantisation, by coding and parameters."""

from collections.abc import Callable, Sequence

from audit.suites import STRENGTHS
from leaderboards.cells import Cell, Column, Footnotes, Number, Table, Words
from leaderboards.paper.measured import finished
from leaderboards.quantization.measured import (
    NOT_IN_THE_PAPER,
    Measured,
    Structure,
    not_run,
    paper_column,
    printed,
    read,
    remarks,
    subject,
)
from leaderboards.quantization.published import Grid, Published
from leaderboards.robustness import CLEAN_SPIKES, LOSS, Target, variation
from leaderboards.said import Said

ATTACKED_SPIKES = Column("spikes per neuron, attacked", "measured", "spikes", "neutral")
Read = Callable[[Target], list[Cell]]


def table_1(found: Measured, paper: Published) -> Table:
    return _losses("1", paper.table_1, found, paper)


def table_2(found: Measured, paper: Published) -> Table:
    return _losses("2", paper.table_2, found, paper)


def table_3(found: Measured, paper: Published) -> Table:
    """Spikes of the clean images, and of those that FGSM made."""
    columns = [paper_column("spikes per neuron", paper, found, "spikes"), CLEAN_SPIKES]
    columns += [_named(f"spikes per neuron, FGSM {name}", ATTACKED_SPIKES) for name in STRENGTHS]

    def spikes(target: Target) -> list[Cell]:
        clean = read(target, STRENGTHS["II"], CLEAN_SPIKES)
        return [clean, *(read(target, levels, ATTACKED_SPIKES) for levels in STRENGTHS.values())]

    return _grid("3", "spike activity", paper.table_3, found, paper, columns, spikes, 1)


def _losses(number: str, said: Grid, found: Measured, paper: Published) -> Table:
    columns: list[Column] = []
    for name in paper.strengths:
        columns += [paper_column(f"loss {name}", paper, found, "%"), _named(f"loss {name}, measured", LOSS)]

    def losses(target: Target) -> list[Cell]:
        return [read(target, STRENGTHS[name], LOSS) for name in paper.strengths]

    return _grid(number, "accuracy loss", said, found, paper, columns, losses, len(paper.strengths))


def _grid(
    number: str,
    what: str,
    said: Grid,
    found: Measured,
    paper: Published,
    columns: Sequence[Column],
    reader: Read,
    published: int,
) -> Table:
    """``published``: how many of the paper's cells a coding has; with as many measured they alternate."""
    width = len(columns) - published
    known = list(dict.fromkeys(row.values for row in said.rows))
    rows: list[tuple[Cell, ...]] = []

    def beside(cells: Sequence[Cell], measured: Sequence[Cell]) -> tuple[Cell, ...]:
        if len(cells) == len(measured):
            return tuple(cell for pair in zip(cells, measured, strict=True) for cell in pair)
        return (*cells, *measured)

    def add(triple: str, stage: str, coding: str, cells: Sequence[Cell], structures: Sequence[Structure]) -> None:
        targets = [target for structure in structures for target in found.at(coding, stage, structure)]
        for target in targets:
            own = (triple, _parameters(target.structure), stage, coding, target.name, f"{target.bits:g}")
            rows.append((*map(Words, own), *beside(cells, reader(target))))
        if not targets and triple != NOT_IN_THE_PAPER:
            head = [Words(text) for text in (triple, "-", stage, coding, "-", "-")]
            rows.append((*head, *beside(cells, [not_run()] * width)))

    for row in said.rows:
        for coding, cells in zip(paper.codings, _by_coding(row.cells, published), strict=True):
            structures = found.beside(row.values, known)
            add(row.triple, row.stage, coding, [printed(cell) for cell in cells], structures)
    nothing: list[Cell] = [Words(NOT_IN_THE_PAPER, missing=True)] * published
    for structure in found.unmatched(known):
        for stage in paper.stages:
            for coding in paper.codings:
                add(NOT_IN_THE_PAPER, stage, coding, nothing, [structure])
    for spread in said.variation:
        for coding, cells in zip(paper.codings, _by_coding(spread.cells, published), strict=True):
            for name, ranges in _ranges(found, coding, spread.stage, reader, width):
                head = [Words(text) for text in ("variation", "-", spread.stage, coding, *name)]
                rows.append((*head, *beside([printed(cell) for cell in cells], ranges)))
    heads = (
        Column("triple in the paper"),
        Column("threshold, gain, leak, measured"),
        Column("stage"),
        Column("coding"),
        Column("network, measured"),
        Column("bits, measured", "count"),
        *columns,
    )
    title = f"Table {number} of the quantisation paper, {what}: {subject(found)}"
    stages = "; ".join(f"{name}: {text}" for name, text in paper.stages.items())
    notes = (f"{stages}. The paper's variation is max - min over the triples.", *said.notes)
    below = remarks(found, paper, said.network, said.source, notes)
    return finished(f"quantization-{number}", title, heads, rows, Footnotes(), below)


def _ranges(
    found: Measured, coding: str, stage: str, reader: Read, width: int
) -> list[tuple[tuple[str, str], list[Cell]]]:
    """Of every network that was run with several parameters, (its name, its bits) and the range of each column."""
    groups: dict[tuple[str, str], list[Target]] = {}
    for structure in found.structures:
        for target in (target for target in found.at(coding, stage, structure) if target.above_chance):
            groups.setdefault((target.name, f"{target.bits:g}"), []).append(target)
    ranges: list[tuple[tuple[str, str], list[Cell]]] = []
    for name, targets in groups.items():
        if len(targets) > 1:
            read_out = [[cell for cell in reader(target) if isinstance(cell, Number)] for target in targets]
            ranges.append((name, [variation(column) for column in zip(*read_out, strict=True)]))
    return ranges or [(("-", "-"), [Words("needs runs with several parameters: --over", missing=True)] * width)]


def _by_coding(cells: Sequence[Said], each: int) -> list[Sequence[Said]]:
    return [cells[start : start + each] for start in range(0, len(cells), each)]


def _named(title: str, column: Column) -> Column:
    return Column(title, column.kind, column.unit, column.direction)


def _parameters(values: Structure) -> str:
    return ", ".join(f"{value:g}" for value in values)
