"""Table 4 and Figure 6: what the two attack scenarios make of targets with and without encryption."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from audit.records import AttackResult, Record
from audit.worst_case import find_attack, worst_case
from leaderboards.cells import Cell, Column, Footnotes, Number, Table, Words, over_seeds
from leaderboards.leakage import LEAKAGE, SCALE, VOID
from leaderboards.lookups import FD, FID, no_defense, number_of, seeds_of
from leaderboards.paper.measured import (
    NOT_IN_THE_PAPER,
    Options,
    finished,
    in_the_paper,
    intervals,
    not_run,
    printed,
    subject,
    targets_of,
)
from leaderboards.paper.published import Published
from leaderboards.paper.setup import differences

INCEPTION = Column(f"{FID}, measured", "measured", "distance", "lower means more leakage")
EVALUATOR = Column(f"{FD}, measured", "measured", "distance", "lower means more leakage")
LEAKS = Column("leakage, measured", "measured", LEAKAGE.unit, LEAKAGE.direction)
WORST = "worst attack of the run"

Found = list[AttackResult | None]


def table_4(records: Sequence[Record], paper: Published, options: Options) -> list[Table]:
    return [_table_4(record, paper) for record in records]


def _table_4(record: Record, paper: Published) -> Table:
    said = paper.table_4
    rows: list[tuple[Cell, ...]] = []
    for cell in said.rows:
        for defense in map(paper.defense_of, cell.systems):
            head = (
                Words(f"{cell.scenario}: {cell.attack}"),
                Words("w/" if cell.encryption else "w/o"),
                Words(defense),
                printed(cell.fid),
            )
            rows.append((*head, *_distances(record, defense, cell.attack)))
    encrypted = {paper.defense_of(system): cell.encryption for cell in said.rows for system in cell.systems}
    for defense, encryption in encrypted.items():
        head = (
            Words(WORST),
            Words("w/" if encryption else "w/o"),
            Words(defense),
            Words(NOT_IN_THE_PAPER, missing=True),
        )
        rows.append((*head, *_worst(record, defense)))
    columns = (
        Column("attack"),
        Column("encryption"),
        Column("defense"),
        Column(in_the_paper("FID", paper, said.dataset, record), "count", "distance"),
        INCEPTION,
        EVALUATOR,
        LEAKS,
    )
    remarks = (
        f"Published: {said.source}. It does not say whether 'w/ Encryption' is with distillation: its value stands "
        "beside dc-cet and privatesnn.",
        "The evaluator's features are another space than Inception's, and the sizes of the two distances cannot be "
        "compared: read a column downwards. The paper measures to the test set, this run to the "
        f"{_reference(record)}; a distance depends on the number of images, which the paper does not state.",
        SCALE,
        VOID,
        "The last rows are of the attack that leaks most, adaptive ones included: for every seed the one that leaks "
        "most on the other seeds. A scenario's FID alone says nothing of an attacker who adapts.",
        intervals(record),
        *differences([record], paper, said.dataset),
    )
    title = f"Table 4 of the PrivateSNN paper, FID of the attacks: {subject(record)}"
    return finished("paper-table-4", title, columns, rows, Footnotes(), remarks)


def _reference(record: Record) -> str:
    """Records from before there were controls measured to the test images."""
    judged = any(a.leakage is not None for r in record.results for d in r.defenses for a in d.attacks)
    return "private training images" if judged else "test images"


def _distances(record: Record, defense: str, attack: str) -> tuple[Cell, ...]:
    targets = targets_of(record, defense)
    if targets is None:
        return not_run(f"--defense {defense}"), not_run(), not_run()
    found = [find_attack(target, attack) for target in targets]
    if not any(found):
        return not_run(f"--attack {attack}"), not_run(), not_run()
    return _numbers(record, found)


def _worst(record: Record, defense: str) -> tuple[Cell, ...]:
    targets = targets_of(record, defense)
    if targets is None:
        return not_run(f"--defense {defense}"), not_run(), not_run()
    names = worst_case(targets).attacks
    if not names:
        attacked = any(target is not None and target.attacks for target in targets)
        nothing = "undecided: no attack has a value under every seed" if attacked else "not run: --attack all"
        return (Words(nothing, missing=True),) * 3
    found = [find_attack(target, name) for target, name in zip(targets, names, strict=True)]
    chosen = f"worst attack: {', '.join(dict.fromkeys(names))}"
    numbers = _numbers(record, found)
    return tuple(
        n if n.value is None else replace(n, reason="; ".join(filter(None, (n.reason, chosen)))) for n in numbers
    )


def _numbers(record: Record, found: Found) -> tuple[Number, ...]:
    """FID, the evaluator's distance, leakage; over the seeds."""
    seeds = seeds_of(record)
    own = (Column(FID, "measured", "distance"), Column(FD, "measured", "distance"))
    distances = [over_seeds([number_of(attack, column) for attack in found], seeds) for column in own]
    return (*distances, over_seeds([_leakage(attack) for attack in found], seeds))


def _leakage(attack: AttackResult | None) -> Number:
    if attack is None:
        return no_defense("fraction")
    if attack.leakage is None:
        return Number.absent("fraction", attack.status if attack.status != "ok" else "undefined", attack.reason)
    return Number.of(attack.leakage)


def figure_6(records: Sequence[Record], paper: Published, options: Options) -> list[Table]:
    pictures = [*options.pictures, *({} for _ in records)]
    return [_figure_6(record, paper, where) for record, where in zip(records, pictures, strict=False)]


def _figure_6(record: Record, paper: Published, pictures: Mapping[str, str]) -> Table:
    said = paper.figure_6
    notes = Footnotes()
    rows: list[tuple[Cell, ...]] = []
    for panel in said.rows:
        if not panel.attack:
            scale = Words("100 %: the scale's upper end")
            rows.append((Words(panel.panel), Words("real images"), scale, Words("-")))
        for defense in map(paper.defense_of, panel.systems):
            first, *_, leakage = _distances(record, defense, panel.attack)
            leakage = first if first.missing and isinstance(first, Words) else leakage
            where = pictures.get(defense)
            mark = notes.mark(f"Pictures of {defense}: {where}.") if where else ""
            rows.append((Words(panel.panel), Words(defense, mark), leakage, Words(panel.quote)))
    columns = (
        Column("panel"),
        Column("target"),
        LEAKS,
        Column(in_the_paper("said of it", paper, said.dataset, record)),
    )
    remarks = (
        f"Published: {said.source}. The paper shows eight images per panel and gives no number.",
        "" if pictures else "Pictures: none lie beside the record.",
        "Leakage by the scenario's own attack only; what adaptive attacks recover is in Table 4 and in the verdict.",
        SCALE,
        VOID,
        intervals(record),
        *differences([record], paper, said.dataset),
    )
    title = f"Figure 6 of the PrivateSNN paper, its five panels: {subject(record)}"
    return finished("figure-6", title, columns, rows, notes, remarks)
