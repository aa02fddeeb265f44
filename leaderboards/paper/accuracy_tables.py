"""Tables 2 and 5: test accuracy on the paper's data sets, and the energy that it takes."""

from collections.abc import Iterator, Sequence

from audit.records import Record
from leaderboards.cells import Cell, Column, Footnotes, Table, Words, over_seeds
from leaderboards.lookups import each_defense, energy_columns, energy_of, seeds_of, time_steps_of
from leaderboards.paper.measured import (
    ACCURACY,
    ANN,
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
    teacher_accuracy,
    unpublished,
)
from leaderboards.paper.published import Accuracy, Efficiency, Published
from leaderboards.paper.setup import differences
from leaderboards.tables import ENERGY_REMARKS

MAIN = "cifar10"


def table_2(records: Sequence[Record], paper: Published, options: Options) -> list[Table]:
    """Rows by data set; runs on different data sets share a table, two on the same one have one each."""
    tables: list[dict[str, Record]] = []
    for record in records:
        free = next((t for t in tables if record.dataset.name not in t), None)
        if free is None:
            tables.append(free := {})
        free[record.dataset.name] = record
    return [_table_2(by_name, paper) for by_name in tables]


def _table_2(runs: dict[str, Record], paper: Published) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, record in runs.items():
        if name not in paper.setups:
            rows += _group(paper, MAIN, record)
    for name, setup in paper.setups.items():
        others = [record for record in runs.values() if record.dataset.name not in paper.setups]
        if name in runs:
            rows += _group(paper, name, runs[name])
        elif name != MAIN or not others:
            missing = not_run(f"--dataset {name}")
            access = not_run()
            rows += [
                (Words(setup.name), *_head(paper, row), access, printed(row.accuracy), missing)
                for row in paper.table_2.rows
                if row.dataset == name
            ]
    columns = (
        Column("data set"),
        Column("method"),
        Column("defense"),
        Column("training data, paper"),
        Column("training data, measured"),
        Column("accuracy, paper", "count", "%"),
        ACCURACY,
    )
    remarks = [
        f"Published: {paper.table_2.source}.",
        "Training data, measured: whether the harness handed the defense the private training images.",
        "A data set that the paper does not have stands beside the paper's CIFAR-10, as its first column says."
        if any(name not in paper.setups for name in runs)
        else "",
    ]
    for name, record in runs.items():
        before = f"{name}: " if len(runs) > 1 else ""
        own = (intervals(record), *differences([record], paper, name if name in paper.setups else MAIN))
        remarks += [before + line for line in own]
    title = f"Table 2 of the PrivateSNN paper, accuracy: {'; '.join(map(subject, runs.values()))}"
    return finished("paper-table-2", title, columns, rows, Footnotes(), remarks)


def _group(paper: Published, published_on: str, record: Record) -> Iterator[tuple[Cell, ...]]:
    """The rows of one data set, and one for each defense that the paper's table lacks."""
    setup = paper.setups[published_on]
    same = record.dataset.name == published_on
    label = Words(setup.name if same else f"{record.dataset.name} ({setup.name} in the paper)")
    said = [row for row in paper.table_2.rows if row.dataset == published_on]
    for row in said:
        defense = paper.defense_of(row.system)
        yield (label, *_head(paper, row), _access(record, defense), printed(row.accuracy), _accuracy(record, defense))
    listed = {paper.defense_of(row.system) for row in said}
    for defense, _ in each_defense(record):
        if defense not in listed:
            nothing = unpublished(paper, defense)
            yield (
                label,
                method_of(record, paper, defense),
                Words(defense),
                nothing,
                _access(record, defense),
                nothing,
                accuracy_of(record, defense),
            )


def _head(paper: Published, row: Accuracy) -> tuple[Words, Words, Words]:
    return _method(paper, row), Words(paper.defense_of(row.system)), Words(row.train_data)


def _method(paper: Published, row: Accuracy | Efficiency) -> Words:
    return Words(paper.systems[row.system].name)


def _accuracy(record: Record, defense: str) -> Cell:
    return teacher_accuracy(record) if defense == ANN else accuracy_of(record, defense)


def _access(record: Record, defense: str) -> Words:
    if defense == ANN:
        return Words("-")
    targets = targets_of(record, defense)
    if targets is None:
        return not_run()
    found = {target.data_access for target in targets if target is not None}
    return Words("Yes" if "training-images" in found else "No" if found == {"none"} else "unknown")


def table_5(records: Sequence[Record], paper: Published, options: Options) -> list[Table]:
    return [_table_5(record, paper) for record in records]


def _table_5(record: Record, paper: Published) -> Table:
    said = paper.table_5
    ratios = energy_columns(record)
    rows = [
        (
            _method(paper, row),
            Words(paper.defense_of(row.system)),
            Words(str(row.time_steps)),
            printed(row.accuracy),
            printed(row.ratio),
            *_measured_energy(record, paper.defense_of(row.system), ratios),
        )
        for row in said.rows
    ]
    listed = {paper.defense_of(row.system) for row in said.rows}
    for defense, _ in each_defense(record):
        if defense not in listed:
            nothing = unpublished(paper, defense)
            head = (method_of(record, paper, defense), Words(defense), nothing, nothing, nothing)
            rows.append((*head, *_measured_energy(record, defense, ratios)))
    columns = (
        Column("method"),
        Column("defense"),
        Column(in_the_paper("T", paper, said.dataset, record), "count", "time-steps"),
        Column(in_the_paper("accuracy", paper, said.dataset, record), "count", "%"),
        Column(in_the_paper("E_ANN / E_ours", paper, said.dataset, record), "count", "ratio"),
        Column("T, measured", "count", "time-steps"),
        ACCURACY,
        *ratios,
    )
    remarks = (
        f"Published: {said.source}. Its ANN has another accuracy there (91.5) than in Table 2 (91.6).",
        *ENERGY_REMARKS,
        intervals(record),
        *differences([record], paper, said.dataset),
    )
    title = f"Table 5 of the PrivateSNN paper, energy: {subject(record)}"
    return finished("paper-table-5", title, columns, rows, Footnotes(), remarks)


def _measured_energy(record: Record, defense: str, ratios: Sequence[Column]) -> tuple[Cell, ...]:
    """T, accuracy, and a ratio for every accounting and set of constants; the ANN is its own measure."""
    if defense == ANN:
        return Words("1"), teacher_accuracy(record), *(Words("1×") for _ in ratios)
    targets = targets_of(record, defense)
    if targets is None:
        return not_run(f"--defense {defense}"), not_run(), *(not_run() for _ in ratios)
    seeds = seeds_of(record)
    numbers = (over_seeds([energy_of(target, column) for target in targets], seeds) for column in ratios)
    return Words(time_steps_of(targets)), accuracy_of(record, defense), *numbers
