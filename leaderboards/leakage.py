"""What attacks recovered, in tables: the verdict per target, every attack beside its controls, membership, weights."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from audit.flags import FLAGS
from audit.records import AttackResult, DefenseResult, Direction, EvidenceKind, Record
from audit.worst_case import worst_case
from leaderboards.cells import Cell, Column, Footnotes, Number, Words, over_seeds
from leaderboards.lookups import (
    MOVED_UNIT,
    access_of,
    any_moved,
    attack_names,
    controls,
    each_defense,
    find_attack,
    images_of,
    leakage_columns,
    movement_of,
    no_defense,
    number_of,
    seeds_of,
    step_rule_of,
)

MORE: Direction = "higher means more leakage"
LEAKAGE = Column("leakage", "measured", "fraction", MORE)
Parts = tuple[tuple[Column, ...], list[tuple[Cell, ...]], tuple[str, ...]]
"""Columns, rows and remarks of a table."""

SCALE = (
    "Leakage places an attack's images between two controls by their Fréchet distance to the private training images: "
    "0 is what the same attack makes of an untrained network of the same shape, 1 is held-out real images, as many."
)
VOID = (
    "Void: the attack fails on the undefended twin too, or it follows a gradient that is masked. A void cell is no "
    "privacy."
)


def verdict(record: Record, notes: Footnotes) -> Parts:
    """One row per target: the worst attack, chosen on the other seeds and reported on this one."""
    seeds = seeds_of(record)
    worst = {name: worst_of(defenses, seeds, notes) for name, defenses in each_defense(record)}
    ranks = rank_groups({name: number for name, (number, _) in worst.items()})
    rows: list[tuple[Cell, ...]] = []
    for name, defenses in each_defense(record):
        number, attack = worst[name]
        flags = flags_of(defenses)
        rank = ranks[name]
        if "masked-gradients" in flags:
            rank = "unranked"
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
                Words(f"{void} of {total}"),
                flag_cell(flags, notes),
            )
        )
    rows.sort(key=lambda row: (row[0].main == "unranked", row[0].main))
    columns = (
        Column("rank"),
        Column("target"),
        Column("access to private data"),
        Column("test accuracy", "measured", "fraction", "higher is better"),
        replace(LEAKAGE, title="leakage, worst attack"),
        Column("worst attack"),
        Column("void cells", "count"),
        Column("flags"),
    )
    chosen = (
        "One seed: the worst attack is chosen and reported on the same seed, which is optimistic for the attacker, and "
        "nothing is ranked: a rank needs intervals."
        if len(seeds) == 1
        else "For every seed the attack is the one that leaks most on the other seeds. Rank: one more than the number "
        "of targets whose interval lies wholly below; targets of one rank are not separated."
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
    lost = f"Without a value under every seed, so not in the choice: {', '.join(worst.lost)}."
    mark = notes.mark(lost) if worst.lost else ""
    numbers = [Number.of(leakage) for leakage in worst.leakages]
    return over_seeds(numbers, seeds), Words(", ".join(dict.fromkeys(worst.attacks)), mark)


def rank_groups(found: dict[str, Number]) -> dict[str, str]:
    """Rank by target: one more than the number of targets that leak surely less; 'unranked' without an interval."""
    ranks: dict[str, str] = {}
    for name, own in found.items():
        if own.low is None or own.value is None:
            ranks[name] = "unranked"
            continue
        below = sum(other.high is not None and other.high < own.low for other in found.values())
        ranks[name] = str(1 + below)
    return ranks


def by_attack(record: Record, notes: Footnotes, columns_of: Callable[[Record], tuple[Column, ...]]) -> Parts:
    """Every inversion on every target, the untrained twins and the image sets that no attack made."""
    measured = columns_of(record)
    moved = any_moved(record)
    seeds = seeds_of(record)

    def row(target: str, found: list[AttackResult | None], name: str, is_attack: bool) -> tuple[Cell, ...]:
        numbers = [over_seeds([number_of(attack, column) for attack in found], seeds) for column in measured]
        rules = "; ".join(dict.fromkeys(rule for attack in found if (rule := step_rule_of(attack))))
        mark = notes.mark(f"Step rule of the attack: {rules}.") if rules else ""
        held = next((a.access for a in found if a is not None), "weights") if is_attack else "no attack"
        cells: list[Cell] = [Words(target), Words(name, mark), Words(held), Words(images_of(found))]
        leaks = [_leakage_of(attack) for attack in found]
        if is_attack and any(leak is not None for leak in leaks):
            cells.append(over_seeds([leak or Number.absent("fraction", "undefined", None) for leak in leaks], seeds))
        else:
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
        LEAKAGE,
        *measured,
        *([Column("image moved", "measured", MOVED_UNIT)] if moved else []),
        Column("flags"),
    )
    remarks = (
        SCALE,
        VOID,
        f"Distances are to the private training images; features: {record.feature_extractor}. A Fréchet distance on "
        "other features is another quantity and has its own column. Distances compare at one number of images only.",
        "An attack that failed keeps its row: its leakage is unknown, not zero. 'untrained' is the first spiking "
        "target's twin; targets of another shape have their own, in the record.",
    )
    return columns, rows, remarks


def of_kind(record: Record, kind: EvidenceKind, remarks: Iterable[str]) -> Parts:
    """Attacks that bring back something else than images: one row per target, attack and measurement."""
    seeds = seeds_of(record)
    rows: list[tuple[Cell, ...]] = []
    units: dict[str, str] = {}
    for defense, defenses in each_defense(record):
        for attack in attack_names(defenses, kind):
            found = [find_attack(d, attack) for d in defenses]
            names = dict.fromkeys((m.name, m.unit, m.direction) for a in found if a for m in a.measurements)
            for name, unit, direction in names:
                units[name] = unit
                number = over_seeds([number_of(a, Column(name, "measured", unit, direction)) for a in found], seeds)
                meaning = "lower = more leaks" if direction == "lower means more leakage" else "higher = more leaks"
                rows.append((Words(defense), Words(attack), Words(name), number, Words(meaning)))
            if not names:
                absent = over_seeds([number_of(a, Column("", "measured", "")) for a in found], seeds)
                rows.append((Words(defense), Words(attack), Words("none"), absent, Words("nothing")))
    if not rows:
        absent = Number.absent("", "not-applicable", "no such attack was run")
        rows = [(Words("none"), Words("none"), Words("none"), absent, Words("nothing"))]
    columns = (Column("target"), Column("attack"), Column("measurement"), Column("value", "measured"), Column("reads"))
    return columns, rows, tuple(remarks)


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


def main_columns(record: Record) -> tuple[Column, ...]:
    return leakage_columns(record, main=True)


def all_columns(record: Record) -> tuple[Column, ...]:
    return leakage_columns(record, main=False)


def flags_of(defenses: Sequence[DefenseResult | None]) -> list[str]:
    return list(dict.fromkeys(flag for d in defenses if d is not None for flag in d.flags))


def flag_cell(flags: Sequence[str], notes: Footnotes) -> Words:
    marks = [notes.mark(f"{flag}: {FLAGS.get(flag, 'unknown flag')}.") for flag in flags]
    return Words(", ".join(flags) if flags else "none", ",".join(marks))


def _leakage_of(attack: AttackResult | None) -> Number | None:
    return Number.of(attack.leakage) if attack is not None and attack.leakage is not None else None
