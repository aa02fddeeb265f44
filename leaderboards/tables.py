"""Records in, comparison tables out: accuracy, leakage, energy, and the ablation of the paper's Table 3."""

from collections.abc import Callable, Iterable
from pathlib import Path

from audit.errors import AuditError
from audit.records import DefenseResult, Record
from audit.worst_case import find_attack
from leaderboards.cells import Cell, Column, Footnotes, Number, Table, Words, drop_in_points, over_seeds
from leaderboards.latency import latency
from leaderboards.leakage import Parts, by_attack, membership, verdict, weights
from leaderboards.lookups import (
    ACCESS,
    NOT_SPIKING,
    access_of,
    attack_names,
    each_defense,
    energy_columns,
    energy_of,
    guarantee_of,
    leakage_columns,
    no_defense,
    number_of,
    operations_of,
    samples_of,
    seeds_of,
    time_steps_of,
)
from leaderboards.rendering import Format, plain, render
from leaderboards.robustness import robustness

__all__ = ["FORMATS", "NAMES", "Table", "build", "plain", "readable", "render", "write_all"]

NAMES = ("verdict", "accuracy", "latency", "leakage", "details", "membership", "weights", "energy", "ablation")
WITHOUT_ATTACKS = ("accuracy", "latency", "energy")
# Of a record with evasions alone, and, of one with other attacks as well, beside its own.
ROBUSTNESS = "robustness"
FORMATS: tuple[Format, ...] = ("csv", "md", "tex")

ABLATION = {"data-free-conversion": "DC", "dc-cet": "DC + CET", "privatesnn": "DC + CET + OD"}
ENERGY_REMARKS = (
    "Operations are counted in real runs, over all T time-steps. AC: an accumulate, a binary or signed event times its "
    "fan-out. MAC: a multiply-accumulate, for a graded input (after average pooling, or direct or phase coding). ANN "
    "MAC: a multiply-accumulate of the teacher on the same image.",
    "Energy ratios are ANN energy / SNN energy: above 1× the spiking network needs less. They count arithmetic only: "
    "no memory traffic, no peripheral circuits.",
    "Total over T: every operation of all T time-steps. This is what a battery sees, and the headline. Mean per "
    "time-step: the same count divided by T; one image takes T of them, so it is no energy per decision. Spike rate x "
    "ANN operations: the literature's estimate, each layer's MAC times the spikes per neuron, over all T, of the layer "
    "before it.",
    "Constant sets (45 nm; MAC, AC): float32 4.6 and 0.9 pJ; int32 3.2 and 0.1 pJ.",
    "The PrivateSNN paper reports 55.8× (VGG16, CIFAR-10, T = 150) and states neither constant set nor accounting: "
    "with accumulates only, it needs 0.092 AC per ANN MAC with the first set, 0.573 with the second.",
)


def build(record: Record, name: str) -> Table:
    """The table of that name. Raises AuditError for an unknown name or a record without results."""
    builders: dict[str, Callable[[Record, Footnotes], Table]] = {
        "accuracy": _accuracy,
        "latency": lambda record, notes: _of("latency", "Time-steps", record, notes, latency(record)),
        "verdict": lambda record, notes: _of("verdict", "Verdict", record, notes, verdict(record, notes)),
        "leakage": lambda record, notes: _of(
            "leakage", "Class leakage", record, notes, by_attack(record, notes, main=True)
        ),
        "details": lambda record, notes: _of(
            "details", "Class leakage, every measure", record, notes, by_attack(record, notes, main=False)
        ),
        "membership": lambda record, notes: _of("membership", "Membership", record, notes, membership(record)),
        "weights": lambda record, notes: _of("weights", "Recovered weights", record, notes, weights(record)),
        "energy": _energy,
        "ablation": _ablation,
        ROBUSTNESS: lambda record, notes: _of(ROBUSTNESS, "Robustness", record, notes, robustness([record], notes)),
    }
    if name not in builders:
        raise AuditError(f"unknown table {name!r}; known: {', '.join((*NAMES, ROBUSTNESS))}")
    if not record.results:
        raise AuditError("the record holds no results; there is nothing to tabulate")
    return builders[name](record, Footnotes())


def tabulated(record: Record) -> tuple[str, ...]:
    """The tables that a record has something for: of a run without attacks none that is about leakage."""
    kinds = {attack.evidence for result in record.results for d in result.defenses for attack in d.attacks}
    evasions = (ROBUSTNESS,) if "adversarial" in kinds else ()
    return (*evasions, *(NAMES if kinds - {"adversarial"} else WITHOUT_ATTACKS))


def readable(record: Record) -> tuple[str, ...]:
    """The tables to read on a page or in a terminal: not the widest one, and none that has nothing to say."""
    attacks = [attack for result in record.results for defense in result.defenses for attack in defense.attacks]
    absent = {"details", "latency"} if attacks else {"details"}
    absent |= {kind for kind in ("membership", "weights") if not any(attack.evidence == kind for attack in attacks)}
    absent |= set() if any(attack.leakage is not None for attack in attacks) else {"verdict"}
    return tuple(name for name in tabulated(record) if name not in absent)


def write_all(record: Record, folder: Path) -> list[Path]:
    """Write every table in every format, ``leakage.csv``; each file is whole or absent. Returns the paths."""
    names = tabulated(record)
    texts = {f"{name}.{format}": render(build(record, name), format) for name in names for format in FORMATS}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        temporary = folder / f"{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(folder / name)
    return [folder / name for name in texts]


def _accuracy(record: Record, notes: Footnotes) -> Table:
    columns = (
        Column("network"),
        Column("access to private data"),
        Column("T", "count", "time-steps"),
        Column("test accuracy", "measured", "fraction", "higher is better"),
        Column("drop against the teacher", "measured", "points", "lower is better"),
    )
    seeds = seeds_of(record)
    teachers = [Number.of(result.teacher.accuracy) for result in record.results]
    teacher = over_seeds(teachers, seeds)
    rows: list[tuple[Cell, ...]] = [
        (_teacher(record), Words(ACCESS["training-images"]), Words(NOT_SPIKING), teacher, Words("the reference"))
    ]
    for name, defenses in each_defense(record):
        targets = [_accuracy_of(defense) for defense in defenses]
        drops = [drop_in_points(*pair) for pair in zip(teachers, targets, strict=True)]
        proved = guarantee_of(defenses)
        mark = notes.mark(f"{name}: {proved}") if proved else ""
        head = (Words(name, mark), Words(access_of(defenses)), Words(time_steps_of(defenses)))
        rows.append((*head, over_seeds(targets, seeds), over_seeds(drops, seeds)))
    remarks = (
        "The drop's interval treats the two accuracies as independent; both networks saw the same test images, so it "
        "is wider than it need be."
        if len(seeds) == 1
        else "The drop is taken within each seed, then averaged.",
        "Access to private data is what the harness handed to the defense, not what the defense says of itself.",
        _baselines(record),
    )
    return _table("accuracy", "Test accuracy", record, columns, rows, notes, remarks)


def _energy(record: Record, notes: Footnotes) -> Table:
    operations = (
        (Column("AC per image", "measured", "operations", "lower is better"), "accumulates", False),
        (Column("MAC per image", "measured", "operations", "lower is better"), "multiply_accumulates", False),
        (Column("AC per ANN MAC", "measured", "", "lower is better"), "accumulates", True),
        (Column("MAC per ANN MAC", "measured", "", "lower is better"), "multiply_accumulates", True),
    )
    ratios = energy_columns(record)
    seeds = seeds_of(record)
    macs = [Number(float(r.teacher.multiply_accumulates), "operations") for r in record.results]
    own = (Words("none"), over_seeds(macs, seeds), Words("none"), Words("1"))
    rows: list[tuple[Cell, ...]] = [(_teacher(record), Words(NOT_SPIKING), *own, *(Words("1×") for _ in ratios))]
    for name, defenses in each_defense(record):
        cells: list[Cell] = [Words(name), Words(time_steps_of(defenses))]
        for column, field, per_mac in operations:
            cells.append(over_seeds([operations_of(d, column, field, per_mac) for d in defenses], seeds))
        for column in ratios:
            cells.append(over_seeds([energy_of(d, column) for d in defenses], seeds))
        rows.append(tuple(cells))
    columns = (Column("network"), Column("T", "count", "time-steps"), *(o[0] for o in operations), *ratios)
    return _table("energy", "Inference energy", record, columns, rows, notes, ENERGY_REMARKS)


def _ablation(record: Record, notes: Footnotes) -> Table:
    leakages = leakage_columns(record, main=True)
    seeds = seeds_of(record)
    found = dict(each_defense(record))
    rows: list[tuple[Cell, ...]] = []
    for name in [*(n for n in ABLATION if n in found), *(n for n in found if n not in ABLATION)]:
        defenses = found[name]
        cells: list[Cell] = [Words(f"{ABLATION[name]} ({name})" if name in ABLATION else name)]
        cells.append(Words({"none": "yes", "unknown": "unknown"}.get(access_of(defenses), "no")))
        for column in leakages:
            cells += _worst(defenses, column, seeds, notes)
        cells += [samples_of(defenses), over_seeds([_accuracy_of(defense) for defense in defenses], seeds)]
        rows.append(tuple(cells))
    columns = (
        Column("method"),
        Column("data leakage addressed"),
        *(
            column
            for d in leakages
            for column in (
                Column(f"class leakage: {d.title}", "measured", d.unit, d.direction),
                Column(f"worst attack by {d.title}"),
            )
        ),
        Column("training samples", "count", "images"),
        Column("test accuracy", "measured", "fraction", "higher is better"),
    )
    remarks = (
        "Layout of Table 3 of the PrivateSNN paper. DC: data-free conversion; CET: class encryption training; OD: "
        "on-device distillation.",
        "Data leakage addressed: the harness handed the defense no object from which a real image can be reached.",
        "Class leakage is, for each measure, that of the attack which leaks most by it; two measures may name two "
        "attacks. Neither is a verdict: compare with the undefended network and the controls of the leakage table.",
    )
    return _table("ablation", "Ablation", record, columns, rows, notes, remarks)


def _worst(
    defenses: list[DefenseResult | None], column: Column, seeds: list[int], notes: Footnotes
) -> tuple[Cell, Cell]:
    """The attack that leaks most by this measure. One without a value is named: it might have been the worst."""
    numbers = {
        attack: over_seeds([number_of(find_attack(d, attack), column) for d in defenses], seeds)
        for attack in attack_names(defenses)
    }
    if not numbers:
        absent = Number.absent(column.unit, "not-applicable", "no attack was run on this target")
        return absent, Words("none", missing=True)
    values = {attack: number.value for attack, number in numbers.items() if number.value is not None}
    if not values:
        return next(iter(numbers.values())), Words("unknown", missing=True)
    most = max if column.direction == "higher means more leakage" else min
    worst = most(values, key=lambda attack: values[attack])
    unknown = [
        f"{attack} {number.status} ({number.reason or 'no reason recorded'})"
        for attack, number in numbers.items()
        if number.value is None and number.status != "not-applicable"
    ]
    mark = notes.mark(f"Worst of the attacks with a value; unknown: {'; '.join(unknown)}") if unknown else ""
    return numbers[worst], Words(worst, mark)


def _teacher(record: Record) -> Words:
    return Words(f"teacher ({record.results[0].teacher.architecture})")


def _accuracy_of(defense: DefenseResult | None) -> Number:
    return Number.of(defense.accuracy) if defense is not None else no_defense("fraction")


def _of(name: str, what: str, record: Record, notes: Footnotes, parts: Parts) -> Table:
    columns, rows, remarks = parts
    return _table(name, what, record, columns, rows, notes, remarks)


def _table(
    name: str,
    what: str,
    record: Record,
    columns: tuple[Column, ...],
    rows: list[tuple[Cell, ...]],
    notes: Footnotes,
    remarks: Iterable[str],
) -> Table:
    title = f"{what}: {record.results[0].teacher.architecture} on {record.dataset.name}, profile {record.profile}"
    heads, marked = notes.collect(columns, rows)
    return Table(name, title, heads, marked, notes.all(_intervals(record, rows), *remarks))


def _intervals(record: Record, rows: Iterable[tuple[Cell, ...]]) -> str:
    seeds = seeds_of(record)
    if len(seeds) > 1:
        return (
            f"Each number is the mean over {len(seeds)} seeds ({', '.join(map(str, seeds))}) with a Student t 95 % "
            "interval over the seeds; what one seed lacks is not averaged over the others."
        )
    numbers = [cell for row in rows for cell in row if isinstance(cell, Number)]
    kinds = dict.fromkeys(number.interval for number in numbers if number.interval_text and number.interval)
    if not kinds:
        return f"One seed ({seeds[0]}), and no interval was measured: how far another run would differ is unknown."
    return f"One seed ({seeds[0]}). Intervals, in brackets, are those of the measurements: {', '.join(kinds)}."


def _baselines(record: Record) -> str:
    names = [d.defense for d in record.results[0].defenses if not d.requested]
    return f"Baselines, which the audited defense is compared with: {', '.join(names)}." if names else ""
