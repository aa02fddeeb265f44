"""What a record says about one cell of a table: one value per seed, and a reason where there is none."""

import math
from collections.abc import Iterable, Iterator

from audit.records import AttackResult, DefenseResult, Direction, EvidenceKind, LayerOperations, Record
from leaderboards.cells import Cell, Column, Number, Words

FD = "FD, evaluator features"
FID = "FID, Inception"
RECOGNISED = "recognised by the evaluator"
RELATIVE = "recognised, relative to real images"
CONDITIONAL = "KID within classes, evaluator features"
MAIN = (FD, FID, RECOGNISED, RELATIVE, CONDITIONAL)
OTHERS = (
    "FD of as many real images, evaluator features",
    "recognised by the second evaluator",
    "KID, evaluator features",
    "density, evaluator features",
    "coverage, evaluator features",
    "nearest private image, evaluator features",
    "SSIM to the nearest private image",
)
MOVED = "image moved by, grey levels"
MOVED_UNIT = "grey levels of 255, by the gradient"
TRAINING_LOSS = "training_loss"
STEP_RULE = "step rule"
SYNTHETIC_IMAGES = "synthetic_images"
PRIVATE_IMAGES = "private images"

ACCESS = {"none": "none", "training-images": "training images", "unknown": "unknown"}
NOT_SPIKING = "not spiking"


def leakage_columns(record: Record, main: bool = False) -> tuple[Column, ...]:
    """One column per measurement of images, by name and unit, known names first; the direction is the attacks' one.

    ``main``: of the known names those only.
    """
    found: dict[tuple[str, str], Direction] = {}
    attacks = [a for r in record.results for d in r.defenses for a in d.attacks if a.evidence == "images"]
    for attack in (*attacks, *(c for r in record.results for c in r.controls)):
        for m in attack.measurements:
            if found.get((m.name, m.unit), "neutral") == "neutral":
                found[m.name, m.unit] = m.direction
    known = {name: place for place, name in enumerate(MAIN)}
    order = sorted(found, key=lambda key: known.get(key[0], len(known)))
    if main:
        order = [key for key in order if key[0] in known or key[0] not in OTHERS]
    return tuple(Column(name, "measured", unit, found[name, unit]) for name, unit in order)


def number_of(attack: AttackResult | None, column: Column) -> Number:
    if attack is None:
        return no_defense(column.unit)
    for m in attack.measurements:
        if (m.name, m.unit) == (column.title, column.unit):
            return Number.of(m)
    if attack.status != "ok":
        return Number.absent(column.unit, attack.status, attack.reason, attack.images)
    return Number.absent(column.unit, "not-applicable", "not measured on these images", attack.images)


def movement_of(attack: AttackResult | None) -> Number:
    unit = MOVED_UNIT
    if attack is None:
        return no_defense(unit)
    moved = attack.notes.get(MOVED)
    if isinstance(moved, int | float) and math.isfinite(moved):
        return Number(float(moved), unit, n=attack.images)
    if attack.status != "ok":
        return Number.absent(unit, attack.status, attack.reason, attack.images)
    return Number.absent(unit, "not-applicable", "the attack does not record it", attack.images)


def step_rule_of(attack: AttackResult | None) -> str:
    rule = attack.notes.get(STEP_RULE) if attack is not None else None
    return rule if isinstance(rule, str) else ""


def any_moved(record: Record) -> bool:
    return any(MOVED in a.notes for r in record.results for d in r.defenses for a in d.attacks)


def energy_columns(record: Record) -> tuple[Column, ...]:
    """The ratios ANN / SNN, one column per name; what all names have before their first comma is the family."""
    found: dict[str, Direction] = {}
    for result in record.results:
        for defense in result.defenses:
            for m in defense.energy.measurements if defense.energy else ():
                if m.unit == "ratio" and m.direction == "higher is better":
                    found.setdefault(m.name, m.direction)
    families = {name.partition(", ")[0] for name in found}
    family = families.pop() if len(families) == 1 and len(found) > 1 else ""
    titles = {name: name.removeprefix(f"{family}, ") if family else name for name in found}
    return tuple(Column(titles[name], "measured", "ratio", d, family=family) for name, d in found.items())


def energy_of(defense: DefenseResult | None, column: Column) -> Number:
    unit = column.unit
    if defense is None:
        return no_defense(unit)
    if defense.energy is None:
        return Number.absent(unit, "not-applicable", "the target is an ANN, its energy is the teacher's")
    for m in defense.energy.measurements:
        if (m.name, m.unit) == (column.full_title, unit):
            return Number.of(m)
    return Number.absent(unit, "not-applicable", "not measured for this target")


def operations_of(defense: DefenseResult | None, column: Column, field: str, per_mac: bool) -> Number:
    """Operations of one kind per image, over all layers and time-steps; or per multiply-accumulate of the ANN."""
    unit = column.unit
    if defense is None or defense.energy is None:
        return energy_of(defense, column)
    layers: Iterable[LayerOperations] = defense.energy.layers
    count = sum(float(getattr(layer, field)) for layer in layers)
    if not per_mac:
        return Number(count, unit, n=defense.energy.images)
    macs = sum(layer.ann_multiply_accumulates for layer in layers)
    if macs == 0:
        return Number.absent(unit, "undefined", "the ANN's layers count no multiply-accumulate", defense.energy.images)
    return Number(count / macs, unit, n=defense.energy.images)


def samples_of(defenses: list[DefenseResult | None]) -> Cell:
    present = [d for d in defenses if d is not None]
    private = [d.notes.get(PRIVATE_IMAGES) for d in present]
    if present and all(isinstance(count, int) for count in private):
        return Words(f"{span([count for count in private if isinstance(count, int)])} private")
    if present and all(TRAINING_LOSS not in d.notes for d in present):
        return Words("none: not trained")
    counts = [d.notes.get(SYNTHETIC_IMAGES) for d in present]
    whole = [count for count in counts if isinstance(count, int)]
    if whole and len(whole) == len(counts):
        return Words(span(whole))
    return Words("none recorded", missing=True)


def guarantee_of(defenses: list[DefenseResult | None]) -> str | None:
    """What a defense with a proof wrote down of it; None of any other.

    Targets of several seeds are made of the same images: whoever holds them all holds what their sum allows (basic
    composition, Dwork and Roth 2014, Theorem 3.16).
    """
    notes = [d.notes for d in defenses if d is not None and {"epsilon", "delta"} <= d.notes.keys()]
    spent = [note["epsilon"] for note in notes if isinstance(note["epsilon"], int | float)]
    deltas = [note["delta"] for note in notes if isinstance(note["delta"], int | float)]
    if not spent or len(spent) != len(deltas):
        return None
    accountant = notes[0].get("accountant", "accountant not recorded")
    relation = notes[0].get("neighbouring relation", "relation not recorded")
    one = f"({max(spent):.3g}, {max(deltas):.1g})-differential privacy of the training set spent by one target"
    if len(spent) > 1:
        one += f", ({sum(spent):.3g}, {sum(deltas):.1g}) by the {len(spent)} of all seeds together"
    return f"{one}, by its own accountant ({accountant}; {relation})"


def controls(record: Record) -> Iterator[tuple[str, list[AttackResult | None]]]:
    """Each control with its result per seed, in the record's order."""
    names = dict.fromkeys(control.attack for result in record.results for control in result.controls)
    for name in names:
        yield name, [next((c for c in result.controls if c.attack == name), None) for result in record.results]


def each_defense(record: Record) -> Iterator[tuple[str, list[DefenseResult | None]]]:
    """Each defense with its result per seed, in the record's order."""
    names = dict.fromkeys(d.defense for result in record.results for d in result.defenses)
    for name in names:
        yield name, [next((d for d in result.defenses if d.defense == name), None) for result in record.results]


def attack_names(defenses: list[DefenseResult | None], kind: EvidenceKind = "images") -> list[str]:
    """Attacks that bring back evidence of this kind, in the record's order."""
    return list(dict.fromkeys(a.attack for d in defenses if d is not None for a in d.attacks if a.evidence == kind))


def no_defense(unit: str) -> Number:
    return Number.absent(unit, "undefined", "this seed has no such result")


def access_of(defenses: list[DefenseResult | None]) -> str:
    return ACCESS[next(d.data_access for d in defenses if d is not None)]


def time_steps_of(defenses: list[DefenseResult | None]) -> str:
    steps = [d.time_steps for d in defenses if d is not None and d.time_steps is not None]
    return span(steps) if steps else NOT_SPIKING


def images_of(found: list[AttackResult | None]) -> str:
    counts = [attack.images for attack in found if attack is not None and attack.images > 0]
    return span(counts) if counts else "none"


def span(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def seeds_of(record: Record) -> list[int]:
    return [result.seed for result in record.results]
