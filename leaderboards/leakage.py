"""What attacks recovered, in tables: the verdict per target, every attack beside its controls, membership, weights."""

from collections.abc import Sequence
from dataclasses import replace

from audit.flags import FLAGS
from audit.records import AttackResult, DefenseResult, Direction, EvidenceKind, Record
from audit.worst_case import DISTANCE, REAL_DISTANCE, WorstCase, find_attack, measurement, worst_case
from leaderboards.cells import Cell, Column, Footnotes, Number, Words, formatted, over_seeds
from leaderboards.lookups import (
    MOVED_UNIT,
    access_of,
    any_moved,
    attack_names,
    controls,
    each_defense,
    images_of,
    leakage_columns,
    movement_of,
    no_defense,
    number_of,
    seeds_of,
    step_rule_of,
)

MORE: Direction = "higher means more leakage"
MASKED = "masked-gradients"
# Of an interval that still gives a rank.
WIDEST = 0.5
LEAKAGE = Column("leakage", "measured", "fraction", MORE)
Parts = tuple[tuple[Column, ...], list[tuple[Cell, ...]], tuple[str, ...]]
"""Columns, rows and remarks of a table."""

SCALE = (
    "Leakage places an attack's images between two controls by their Fréchet distance to the private training images: "
    "0 is what the same attack makes of an untrained network of the same shape, 1 is held-out real images, as many."
)
BEFORE = (
    "A record from before there were controls on both sides: it has distances and recognition, and no leakage. Compare "
    "a target with the undefended one."
)
VOID = (
    "Void: the attack fails on the undefended twin too, or it follows a gradient that is masked. A void cell is no "
    "privacy."
)


def verdict(record: Record, notes: Footnotes) -> Parts:
    """One row per target: the worst attack, chosen on the other seeds and reported on this one."""
    seeds = seeds_of(record)
    worst = {name: worst_of(defenses, seeds, notes) for name, defenses in each_defense(record)}
    unfit = {name for name, ds in each_defense(record) if worst_case(ds).at_least or MASKED in flags_of(ds)}
    ranks = rank_groups({name: number for name, (number, _) in worst.items() if name not in unfit})
    rows: list[tuple[Cell, ...]] = []
    for name, defenses in each_defense(record):
        number, attack = worst[name]
        flags = flags_of(defenses)
        rank = ranks.get(name, "unranked")
        present = [d for d in defenses if d is not None]
        accuracy = over_seeds([Number.of(d.accuracy) if d else no_defense("fraction") for d in defenses], seeds)
        void = sum(a.leakage is not None and a.leakage.status == "void" for d in present for a in d.attacks)
        total = sum(a.leakage is not None for d in present for a in d.attacks)
        rows.append(
            (
                Words(rank),
                Words(name),
                Words(access_of(defenses)),
                accuracy,
                number,
                attack,
                Words(scale_of(defenses)),
                Words(f"{void} of {total}"),
                flag_cell(flags, notes),
            )
        )
    rows.sort(key=lambda row: float(row[0].main) if row[0].main != "unranked" else float("inf"))
    columns = (
        Column("rank"),
        Column("target"),
        Column("access to private data"),
        Column("test accuracy", "measured", "fraction", "higher is better"),
        replace(LEAKAGE, title="leakage, worst attack"),
        Column("worst attack"),
        Column("its FD, on the scale from an untrained network to real images"),
        Column("void cells", "count"),
        Column("flags"),
    )
    chosen = (
        "One seed: the worst attack is chosen and reported on the same seed, which is optimistic for the attacker, and "
        "nothing is ranked: a rank needs intervals."
        if len(seeds) == 1
        else "For every seed the attack is the one that leaks most on the other seeds. Rank: one more than the number "
        "of targets whose interval lies wholly below; targets of one rank are not separated, and an interval wider "
        "than half the scale gives none."
    )
    return columns, rows, (SCALE, VOID, chosen)


def worst_of(defenses: Sequence[DefenseResult | None], seeds: Sequence[int], notes: Footnotes) -> tuple[Number, Words]:
    """Leakage of the attack that leaks most, per seed chosen on the others; and its name or names."""
    worst = worst_case(defenses)
    if not worst.attacks:
        none = Words("none", missing=True)
        if worst.why is not None:
            return Number.absent("fraction", worst.why.status, worst.why.reason), none
        return Number.absent("fraction", "not-applicable", "no attack brings images from this target"), none
    numbers = [Number.of(leakage) for leakage in worst.leakages]
    return over_seeds(numbers, seeds), lost_attacks(worst, ", ".join(dict.fromkeys(worst.attacks)), notes)


def lost_attacks(worst: WorstCase, text: str, notes: Footnotes) -> Words:
    """``text`` with a footnote on the attacks that were not in the choice."""
    said = [f"Without a value under every seed, so not in the choice: {', '.join(worst.lost)}."] if worst.lost else []
    if worst.at_least:
        said.append(f"A lower bound, and unranked: {'; '.join(worst.doubts)}.")
    return Words(text, notes.mark(" ".join(said)) if said else "", missing=not worst.attacks)


def scale_of(defenses: Sequence[DefenseResult | None]) -> str:
    """The worst attack's distance and the two that it lies between, means over the seeds: '8.7 in 45.9 to 0.35'.

    The untrained network has the target's own shape, so that targets of two shapes have two scales.
    """
    worst = worst_case(defenses)
    read: list[tuple[float, float, float]] = []
    for defense, name in zip(defenses, worst.attacks, strict=False):
        attack = find_attack(defense, name)
        null = next((a for a in defense.untrained if a.attack == name), None) if defense else None
        found = [measurement(of, what) for of, what in ((attack, DISTANCE), (null, DISTANCE), (attack, REAL_DISTANCE))]
        values = [m.value for m in found if m is not None and m.value is not None]
        if len(values) == 3:
            read.append((values[0], values[1], values[2]))
    if not read:
        return "none"
    means = [sum(part) / len(read) for part in zip(*read, strict=True)]
    own, untrained, real = (formatted(mean, "distance", mean) for mean in means)
    return f"{own} in {untrained} to {real}"


def rank_groups(found: dict[str, Number]) -> dict[str, str]:
    """Rank by target: one more than the number of targets that leak surely less; 'unranked' without an interval.

    So is one with an interval that is no better than none: whoever spreads over the scale is outranked by nobody.
    """
    ranks: dict[str, str] = {}
    for name, own in found.items():
        if own.low is None or own.high is None or own.value is None or own.high - own.low > WIDEST:
            ranks[name] = "unranked"
            continue
        below = sum(other.high is not None and other.high < own.low for other in found.values())
        ranks[name] = str(1 + below)
    return ranks


def by_attack(record: Record, notes: Footnotes, main: bool) -> Parts:
    """Every inversion on every target, the untrained twins and the image sets that no attack made.

    ``main``: without the measures that only the table of details has.
    """
    measured = leakage_columns(record, main)
    moved = any_moved(record) and not main
    # Records from before there were controls on both sides hold no leakage.
    judged = any(a.leakage is not None for r in record.results for d in r.defenses for a in d.attacks)
    seeds = seeds_of(record)

    def row(target: str, found: list[AttackResult | None], name: str, is_attack: bool) -> tuple[Cell, ...]:
        numbers = [over_seeds([number_of(attack, column) for attack in found], seeds) for column in measured]
        rules = "; ".join(dict.fromkeys(rule for attack in found if (rule := step_rule_of(attack))))
        mark = notes.mark(f"Step rule of the attack: {rules}.") if rules else ""
        held = next((a.access for a in found if a is not None), "weights") if is_attack else "no attack"
        cells: list[Cell] = [Words(target), Words(name, mark), Words(held), Words(images_of(found))]
        leaks = [_leakage_of(attack) for attack in found]
        if judged and any(leak is not None for leak in leaks):
            cells.append(over_seeds([leak or Number.absent("fraction", "undefined", None) for leak in leaks], seeds))
        elif judged:
            cells.append(Words("control" if not is_attack or target == "untrained" else "no images"))
        cells += numbers
        if moved:
            cells.append(over_seeds([movement_of(a) for a in found], seeds) if is_attack else Words("no attack"))
        flags = list(dict.fromkeys(flag for a in found if a is not None for flag in a.flags))
        return (*cells, flag_cell(flags, notes))

    rows = [row("control", found, name, False) for name, found in controls(record)]
    rows += [row("untrained", found, name, True) for name, found in untrained(record)]
    for defense, defenses in each_defense(record):
        for attack in attack_names(defenses, "images"):
            rows.append(row(defense, [find_attack(d, attack) for d in defenses], attack, True))
    columns = (
        Column("target"),
        Column("images made by"),
        Column("attacker holds"),
        Column("images", "count"),
        *([LEAKAGE] if judged else []),
        *measured,
        *([Column("image moved", "measured", MOVED_UNIT)] if moved else []),
        Column("flags"),
    )
    remarks = (
        *((SCALE, VOID) if judged else (BEFORE,)),
        f"Distances are to the {'private training' if judged else 'test'} images; features: "
        f"{record.feature_extractor}. A Fréchet distance on other features is another quantity and has its own column. "
        "Distances compare at one number of images only.",
        "An attack that failed keeps its row: its leakage is unknown, not zero. 'untrained' is the first spiking "
        "target's twin; targets of another shape have their own, in the record.",
    )
    return columns, rows, remarks


def membership(record: Record) -> Parts:
    """One row per target and signal; a measurement is named 'AUC, loss': what is measured, then the signal."""
    seeds = seeds_of(record)
    found = _measurements(record, "membership")
    columns = {c.title: c for _, _, c, _ in found if ", " not in c.title}
    for _, _, column, _ in found:
        kind = column.title.partition(", ")[0]
        columns.setdefault(kind, replace(column, title=kind))
    rows: list[tuple[Cell, ...]] = []
    signals = dict.fromkeys((target, c.title.partition(", ")[2]) for target, _, c, _ in found if ", " in c.title)
    for target, signal in signals:
        cells = []
        for kind, column in columns.items():
            wanted = {kind, f"{kind}, {signal}"}
            match = next((f for f in found if f[0] == target and f[2].title in wanted), None)
            nothing = Number.absent(column.unit, "not-applicable", "not measured for this signal")
            cells.append(over_seeds([number_of(a, match[2]) for a in match[3]], seeds) if match else nothing)
        rows.append((Words(target), Words(signal), *cells))
    rows += _without_measurements(record, "membership", list(columns.values()))
    return (Column("target"), Column("signal"), *columns.values()), rows, MEMBERSHIP_REMARKS


def weights(record: Record) -> Parts:
    """One row per target, a column per measurement."""
    seeds = seeds_of(record)
    found = _measurements(record, "weights")
    columns = {c.title: c for _, _, c, _ in found}
    rows: list[tuple[Cell, ...]] = []
    for target, attack in dict.fromkeys((target, attack) for target, attack, _, _ in found):
        own = {
            c.title: over_seeds([number_of(a, c) for a in results], seeds) for t, _, c, results in found if t == target
        }
        nothing = Number.absent("", "not-applicable", "not measured for this target")
        rows.append((Words(target), Words(attack), *(own.get(title, nothing) for title in columns)))
    rows += _without_measurements(record, "weights", list(columns.values()))
    return (Column("target"), Column("attack"), *columns.values()), rows, WEIGHT_REMARKS


def _without_measurements(record: Record, kind: EvidenceKind, columns: Sequence[Column]) -> list[tuple[Cell, ...]]:
    """Attacks that brought nothing under any seed keep a row, with their status and reason."""
    rows: list[tuple[Cell, ...]] = []
    for target, defenses in each_defense(record):
        for attack in attack_names(defenses, kind):
            found = [find_attack(d, attack) for d in defenses]
            if not any(a.measurements for a in found if a is not None):
                absent = over_seeds([number_of(a, Column("", "measured")) for a in found], seeds_of(record))
                cells = [replace(absent, unit=column.unit) for column in columns]
                rows.append((Words(target), Words(f"{attack}: {absent.main}"), *cells))
    return rows


def _measurements(record: Record, kind: EvidenceKind) -> list[tuple[str, str, Column, list[AttackResult | None]]]:
    """(target, attack, column, the attack under each seed) of every measurement of this kind of evidence."""
    listed = []
    for target, defenses in each_defense(record):
        for attack in attack_names(defenses, kind):
            found = [find_attack(d, attack) for d in defenses]
            names = dict.fromkeys((m.name, m.unit, m.direction) for a in found if a for m in a.measurements)
            listed += [(target, attack, Column(n, "measured", unit, way), found) for n, unit, way in names]
    return listed


MEMBERSHIP_REMARKS = (
    "AUC 0.5 is chance. TPR: the share of members found where the named share of non-members is accused wrongly. "
    "Read them beside the train/test gap: a target without one shows nothing to most signals.",
    "'Epsilon at least' is a lower bound that holds at 95 % although a threshold was chosen, under the assumptions of "
    "docs/threat-models.md; 0 is no proof of privacy. Of several signals the best is an optimistic pick.",
)
WEIGHT_REMARKS = (
    "How much of the teacher is in the network that an attacker reads out of the target. A cosine near 1 says that "
    "encryption hardly moved the weights; a barrier near 0 that both lie in one basin of the loss.",
)


def untrained(record: Record) -> list[tuple[str, list[AttackResult | None]]]:
    """The negative control of each inversion, on the twin of the record's first spiking target."""
    name = next((n for n, ds in each_defense(record) if any(d is not None and d.time_steps for d in ds)), None)
    chosen = next((ds for n, ds in each_defense(record) if n == name), next((ds for _, ds in each_defense(record)), []))
    attacks = dict.fromkeys(a.attack for d in chosen if d for a in d.untrained if a.evidence == "images")
    return [
        (attack, [next((a for a in d.untrained if a.attack == attack), None) if d else None for d in chosen])
        for attack in attacks
    ]


def flags_of(defenses: Sequence[DefenseResult | None]) -> list[str]:
    return list(dict.fromkeys(flag for d in defenses if d is not None for flag in d.flags))


def flag_cell(flags: Sequence[str], notes: Footnotes) -> Words:
    marks = [notes.mark(f"{flag}: {FLAGS.get(flag, 'unknown flag')}.") for flag in flags]
    return Words(", ".join(flags) if flags else "none", ",".join(marks))


def _leakage_of(attack: AttackResult | None) -> Number | None:
    return Number.of(attack.leakage) if attack is not None and attack.leakage is not None else None
