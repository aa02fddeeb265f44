"""Table 4, noise-to-signal ratios; Table 5, software beside hardware."""

from audit.suites import STRENGTHS
from leaderboards.cells import Cell, Column, Footnotes, Table, Words
from leaderboards.paper.measured import finished
from leaderboards.quantization.measured import BEFORE, Measured, not_run, paper_column, printed, read, remarks, subject
from leaderboards.quantization.published import Published
from leaderboards.robustness import AGREEMENT, CHIP_LOSS, INPUT_NOISE, LAYER_NOISE, LOSS, Target
from leaderboards.tracks import FULL_PRECISION

RATIOS = (
    INPUT_NOISE,
    LAYER_NOISE,
    *(Column(f"root {c.title}", c.kind, "ratio of norms", c.direction) for c in (INPUT_NOISE, LAYER_NOISE)),
)
DEFINED = (
    "Measured: NSR is the squared distance of the spike trains under FGSM, over neurons and time-steps, to the clean "
    "ones by the square of the clean ones, summed over images, with the same random numbers; its root is the relative "
    "size of the change."
)
EMULATED = (
    "Measured, hardware level: the same network computed in whole numbers (audit.spiking.integer: weights on their "
    "grid, thresholds of 23 bits, membranes of 24, of which up to 8 are fractions of a weight and four are above the "
    "thresholds) on the same attacked images, and how often it says what the network says on the clean ones; no chip "
    "was at hand."
)


def table_4(found: Measured, paper: Published) -> Table:
    said = paper.table_4
    rows: list[tuple[Cell, ...]] = []
    for row in said.rows:
        for coding, cell in zip(paper.codings, row.cells, strict=True):
            head = (Words(f"{row.name}, {row.strength}"), Words(coding))
            targets = [t for structure in found.structures for t in found.at(coding, BEFORE, structure)]
            targets = targets or [t for s in found.structures for t in found.at(coding, "Q2", s)]
            for target in targets:
                measured = [read(target, STRENGTHS[row.strength], column) for column in RATIOS]
                rows.append((*head, Words(_name(target)), printed(cell), *measured))
            if not targets:
                rows.append((*head, Words("-"), printed(cell), *(not_run() for _ in RATIOS)))
    columns = (
        Column("attack"),
        Column("coding"),
        Column("network, measured"),
        paper_column("order of magnitude", paper, found, "ratio"),
        *RATIOS,
    )
    title = f"Table 4 of the quantisation paper, noise-to-signal ratio: {subject(found)}"
    notes = (*remarks(found, paper, said.network, said.source, said.notes), DEFINED)
    return finished("quantization-4", title, columns, rows, Footnotes(), notes)


def table_5(found: Measured, paper: Published) -> Table:
    said = paper.table_5
    software, hardware = said.rows
    quantised = [target for target in found.targets if target.bits < FULL_PRECISION] or list(found.targets)
    rows: list[tuple[Cell, ...]] = []
    for level, column in ((software, LOSS), (hardware, CHIP_LOSS)):
        for target in quantised:
            cells: list[Cell] = []
            for cell, levels in zip(level.cells, STRENGTHS.values(), strict=True):
                cells += [printed(cell), read(target, levels, column)]
            same = read(target, STRENGTHS["II"], AGREEMENT) if level is hardware else Words("-")
            rows.append((Words(level.name), Words(_name(target)), *cells, same))
    columns: list[Column] = [Column("level"), Column("network, measured")]
    for name, levels in STRENGTHS.items():
        columns.append(paper_column(f"adv_loss FGSM_{levels}", paper, found, "%"))
        columns.append(Column(f"loss {name}, measured", LOSS.kind, LOSS.unit, LOSS.direction))
    columns.append(AGREEMENT)
    title = f"Table 5 of the quantisation paper, software and hardware: {subject(found)}"
    notes = (*remarks(found, paper, said.network, said.source, said.notes), EMULATED)
    return finished("quantization-5", title, columns, rows, Footnotes(), notes)


def _name(target: Target) -> str:
    return f"{target.name}, {target.coding}, {target.bits:g} bit, ({', '.join(f'{v:g}' for v in target.structure)})"
