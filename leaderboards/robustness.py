"""Accuracy lost to evasion, by coding of the image, bits per weight and strength: of one record, or of a track's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from audit.records import AttackResult, DefenseResult, EvidenceKind, Record
from audit.suites import STRENGTHS
from audit.worst_case import find_attack
from leaderboards.cells import Cell, Column, Footnotes, Number, Table, Words, over_seeds
from leaderboards.lookups import attack_names, each_defense, energy_columns, energy_of, no_defense, number_of, seeds_of
from leaderboards.tracks import FULL_PRECISION, Place

Found = list[DefenseResult | None]

BITS = "bits per weight"
KIND: EvidenceKind = "adversarial"
FGSM = "fgsm"
# An attack by answers that takes this much more than all with the weights says that their gradients are masked.
MARGIN = 0.05

LOSS = Column("accuracy loss", "measured", "fraction", "lower is better")
CHIP_LOSS = Column("accuracy loss, whole numbers", "measured", "fraction", "lower is better")
CLEAN_ACCURACY = Column("accuracy on the clean images", "measured", "fraction", "higher is better")
AGREEMENT = Column("predictions as in whole numbers", "measured", "fraction", "higher is better")
CLEAN_SPIKES = Column("spikes per neuron, clean", "measured", "spikes", "neutral")
MORE_SPIKES = Column("change of spikes per neuron", "measured", "change in spikes", "neutral")
INPUT_NOISE = Column("NSR, coded input", "measured", "ratio of powers", "lower is better")
LAYER_NOISE = Column("NSR, mean over layers", "measured", "ratio of powers", "lower is better")
SIZE = Column("model size", "measured", "bits", "lower is better")

AT_CHANCE = (
    "Its accuracy is not above chance: there is nothing to take, and its losses, spikes and energy are no merit."
)
REMARKS = (
    "Strengths: images changed by at most 2 (I), 8 (II) and 16 (III) of 255 levels per pixel; the harness checks it. "
    "Attacked are the auditor's test images, none of them private.",
    "Accuracy loss: the share of images right before minus that after, paired. FGSM is one step along the gradient, of "
    "a sweep of surrogates the best for each image. All attacks of a strength: an image is lost that any of them "
    "changed so that the network errs; a random coder answers each of them once, and errs on some by chance. The worst "
    "attack is chosen on the images that it is reported on. A loss near 0 is robustness against these attacks, and no "
    "proof.",
    "Spikes per neuron and image, summed over T, each layer counting the same; their change and the noise-to-signal "
    "ratio are those under FGSM. NSR: squared distance of the spike trains, over neurons and time-steps, to the clean "
    "ones by their square, with the same random numbers; of spikes, 0: every one is where it was, 2: none is, of as "
    "many.",
    "In whole numbers: how often the network computed as a chip does it (audit.spiking.integer: weights on their grid, "
    "membranes of 24 bits, up to 8 of them fractions of a weight) says on the clean images what the network says. "
    "Model size: bits of the weights.",
)


@dataclass(frozen=True)
class Target:
    """A network of a record, under every seed."""

    record: Record
    name: str
    found: Found

    @property
    def first(self) -> DefenseResult:
        return next(d for d in self.found if d is not None)

    @property
    def coding(self) -> str:
        coding = self.first.settings.get("coding")
        return coding if isinstance(coding, str) else "no spikes"

    @property
    def bits(self) -> float:
        noted = self.first.notes.get(BITS)
        return noted if isinstance(noted, int | float) else FULL_PRECISION

    @property
    def structure(self) -> tuple[float, float, float]:
        """Threshold, surrogate gain, leak: of the settings, 1 where there is none."""
        settings = self.first.settings
        threshold = settings.get("firing_threshold", settings.get("threshold_scale"))
        values = (threshold, settings.get("surrogate_gain"), settings.get("leak"))
        one, two, three = (float(value) if isinstance(value, int | float) else 1.0 for value in values)
        return one, two, three

    def accuracy(self) -> Number:
        numbers = [Number.of(d.accuracy) if d else no_defense("fraction") for d in self.found]
        return over_seeds(numbers, seeds_of(self.record))

    @property
    def strengths(self) -> list[float]:
        """The bounds that were tried, in 255ths, rising."""
        found = {self._one(name).settings.get("levels") for name in attack_names(self.found, KIND)}
        return sorted(float(levels) for levels in found if isinstance(levels, int | float))

    def attacks(self, levels: float) -> list[str]:
        """The evasions of this strength, in the record's order."""
        return [name for name in attack_names(self.found, KIND) if self._one(name).settings.get("levels") == levels]

    def number(self, attack: str, column: Column) -> Number:
        """Over the seeds; without a value where the target has no such attack."""
        return over_seeds([number_of(find_attack(d, attack), column) for d in self.found], seeds_of(self.record))

    @property
    def above_chance(self) -> bool:
        """Whether its accuracy is: of another network no attack can take anything."""
        accuracy, chance = self.accuracy(), 1 / len(self.record.dataset.classes)
        return accuracy.value is not None and (accuracy.low if accuracy.low is not None else accuracy.value) > chance

    def agreement(self) -> Number:
        """How often it says on the clean images what it says in whole numbers."""
        if self.bits == FULL_PRECISION:
            return Number.absent(AGREEMENT.unit, "not-applicable", "full precision: its weights are no whole numbers")
        first = next((name for levels in self.strengths if (name := self.fgsm(levels))), None)
        return self.number(first, AGREEMENT) if first else _not_attacked(AGREEMENT)

    def all_evasions(self, levels: float) -> Number:
        """The loss to all of this strength together, over the seeds."""
        name = f"{LOSS.title}, all evasions, {levels:g}/255"
        found = [next((m for m in d.evasions if m.name == name), None) if d else None for d in self.found]
        absent = Number.absent(LOSS.unit, "not-applicable", "not measured on this record: run it again")
        return over_seeds([absent if m is None else Number.of(m) for m in found], seeds_of(self.record))

    def fgsm(self, levels: float) -> str | None:
        """The paper's attack, along the target's own gradient."""
        return next((name for name in self.attacks(levels) if self._one(name).settings.get("method") == FGSM), None)

    def by_scores(self, attack: str) -> bool:
        return self._one(attack).access != "weights"

    def size(self) -> Number:
        numbers = [Number.of(d.size) if d and d.size else no_defense("bits") for d in self.found]
        return over_seeds(numbers, seeds_of(self.record))

    def _one(self, attack: str) -> AttackResult:
        return next(found for d in self.found if (found := find_attack(d, attack)) is not None)


def targets_of(records: Sequence[Record]) -> list[Target]:
    """Every network that an evasion was tried on, each once: runs of a track share baselines."""
    known: dict[tuple[object, ...], Target] = {}
    for record in records:
        for name, found in each_defense(record):
            target = Target(record, name, found)
            if attack_names(found, KIND):
                hashes = tuple((d.target_hash, d.layers_hash) if d else None for d in found)
                known.setdefault((name, target.coding, hashes), target)
    return list(known.values())


def robustness(
    records: Sequence[Record], notes: Footnotes, absent: Sequence[Place] = ()
) -> tuple[tuple[Column, ...], list[tuple[Cell, ...]], tuple[str, ...]]:
    """Columns, a row per target and strength, and remarks; ``absent`` places have a row each, with their reason."""
    targets = targets_of(records)
    several = len({target.structure for target in targets}) > 1
    energies = [c for c in energy_columns(records[0]) if c.title.startswith("total over T")][:1] if records else []
    columns = (
        Column("coding"),
        Column("network"),
        Column("bits per weight", "count"),
        *([Column("threshold, gain, leak")] if several else []),
        Column("strength"),
        Column("test accuracy", "measured", "fraction", "higher is better"),
        Column("accuracy on the attacked images, before", "measured", "fraction", "higher is better"),
        Column("accuracy loss, FGSM", LOSS.kind, LOSS.unit, LOSS.direction),
        Column("accuracy loss, all attacks", LOSS.kind, LOSS.unit, LOSS.direction),
        Column("accuracy loss, worst attack", LOSS.kind, LOSS.unit, LOSS.direction),
        Column("worst attack"),
        CLEAN_SPIKES,
        MORE_SPIKES,
        INPUT_NOISE,
        LAYER_NOISE,
        AGREEMENT,
        SIZE,
        *energies,
    )
    rows: list[tuple[Cell, ...]] = []
    for target in targets:
        for levels in target.strengths:
            head = [target.coding, target.name, f"{target.bits:g}", *([_triple(target.structure)] if several else [])]
            energy = (over_seeds([energy_of(d, c) for d in target.found], seeds_of(target.record)) for c in energies)
            worst = worst_attack(target, levels, notes)
            first = target.fgsm(levels)
            measured = (CLEAN_ACCURACY, LOSS, CLEAN_SPIKES, MORE_SPIKES, INPUT_NOISE, LAYER_NOISE)
            right, fgsm, *answers = (target.number(first, c) if first else _not_attacked(c) for c in measured)
            named = [Words(text) for text in (*head, strength(levels))]
            named[1] = Words(target.name, "" if target.above_chance else notes.mark(AT_CHANCE))
            losses = (right, fgsm, target.all_evasions(levels), *worst)
            rows.append((*named, target.accuracy(), *losses, *answers, target.agreement(), target.size(), *energy))
    if several:
        rows += _variations(targets, len(columns))
    for place in absent:
        mark = notes.mark(f"{place.title}: {place.reason}.")
        head = [place.coding, "none", f"{place.bits or FULL_PRECISION}", *(["none"] if several else []), "all"]
        nothing = [Words("no run", mark, missing=True)] * (len(columns) - len(head))
        rows.append((*map(Words, head), *nothing))
    return columns, rows, REMARKS


def table(records: Sequence[Record], absent: Sequence[Place] = ()) -> Table:
    """Of a track's runs. ``records`` may be empty: then there are reasons only."""
    notes = Footnotes()
    columns, rows, remarks = robustness(records, notes, absent)
    heads, marked = notes.collect(columns, rows)
    versions = len({record.environment.code_hash for record in records})
    mixed = f"The runs were made by {versions} versions of the code." if versions > 1 else ""
    below = notes.all(*remarks, budget(targets_of(records)), mixed)
    return Table("robustness", f"Robustness: {_subject(records)}", heads, marked, below)


def summary(records: Sequence[Record], absent: Sequence[Place] = ()) -> Table:
    """What of it fits a terminal: a row per network, the loss to FGSM at every strength, to all at the largest."""
    notes = Footnotes()
    targets, levels = targets_of(records), list(STRENGTHS.values())
    several = len({target.structure for target in targets}) > 1
    columns = (
        Column("coding"),
        Column("network"),
        Column("bits", "count"),
        *([Column("threshold, gain, leak")] if several else []),
        Column("test accuracy", "measured", "fraction", "higher is better"),
        *(Column(f"loss, FGSM {number}", LOSS.kind, LOSS.unit, LOSS.direction) for number in STRENGTHS),
        Column("loss, all III", LOSS.kind, LOSS.unit, LOSS.direction),
    )
    rows: list[tuple[Cell, ...]] = []
    for target in targets:
        head = [target.coding, target.name, f"{target.bits:g}", *([_triple(target.structure)] if several else [])]
        named = [Words(text) for text in head]
        fgsm = [target.number(name, LOSS) if (name := target.fgsm(at)) else _not_attacked(LOSS) for at in levels]
        rows.append((*named, target.accuracy(), *fgsm, target.all_evasions(levels[-1])))
    for reason in dict.fromkeys(place.reason for place in absent):
        mark = notes.mark(f"No run: {reason}.")
        own = [place for place in absent if place.reason == reason]
        for coding in dict.fromkeys(place.coding for place in own):
            bits = ", ".join(str(place.bits or FULL_PRECISION) for place in own if place.coding == coding)
            head = [coding, "none", bits, *(["none"] if several else [])]
            nothing = [Words("no run", mark, missing=True)] * (len(columns) - len(head))
            rows.append((*map(Words, head), *nothing))
    heads, marked = notes.collect(columns, rows)
    return Table("robustness", f"Robustness: {_subject(records)}", heads, marked, notes.all(*REMARKS[:2]))


def worst_attack(target: Target, levels: float, notes: Footnotes) -> tuple[Number, Words]:
    """The largest loss at this strength and the attack that makes it; marked where an attack has no value, or where
    one that sees answers only is the worst by far."""
    numbers = {name: target.number(name, LOSS) for name in target.attacks(levels)}
    values = {name: number.value for name, number in numbers.items() if number.value is not None}
    if not values:
        return next(iter(numbers.values()), _not_attacked(LOSS)), Words("none", missing=True)
    worst = max(values, key=lambda name: values[name])
    lost = [name for name in numbers if name not in values]
    said = [f"Without a value: {', '.join(lost)}."] if lost else []
    with_weights = [value for name, value in values.items() if not target.by_scores(name)]
    if target.by_scores(worst) and with_weights and values[worst] > max(with_weights) + MARGIN:
        said.append("An attack that sees answers only takes most: the gradients of the others are masked.")
    return numbers[worst], Words(worst, notes.mark(" ".join(said)) if said else "")


def variation(numbers: Sequence[Number]) -> Number:
    """Largest minus smallest, with the range that the intervals leave possible; without a value where one has none."""
    if missing := [number for number in numbers if number.value is None]:
        return Number.absent(missing[0].unit, missing[0].status, missing[0].reason)
    values, lows, highs = ([getattr(n, part) for n in numbers] for part in ("value", "low", "high"))
    whole = max(values) - min(values)
    if None in lows or None in highs:
        return Number(whole, numbers[0].unit, n=numbers[0].n)
    sure, most = max(0.0, max(lows) - min(highs)), max(highs) - min(lows)
    return Number(whole, numbers[0].unit, sure, most, f"the widest of {len(numbers)} 95 % intervals", numbers[0].n)


def alike(targets: Sequence[Target]) -> Iterator[tuple[Target, list[Target]]]:
    """Targets that differ in their structural parameters only, with the first of them; of those above chance."""
    groups: dict[tuple[object, ...], list[Target]] = {}
    for target in (target for target in targets if target.above_chance):
        groups.setdefault((target.coding, target.name, target.bits), []).append(target)
    for group in groups.values():
        if len(group) > 1:
            yield group[0], group


def budget(targets: Sequence[Target]) -> str:
    """What the attacks were given, by their settings: with little, a small loss says little."""
    asked: dict[str, list[object]] = {}
    for attack in (a for target in targets for d in target.found if d for a in d.attacks if a.evidence == KIND):
        for name in ("images", "steps", "widths", "shapes", "encodings", "queries_per_image"):
            if (value := attack.settings.get(name)) is not None and value not in asked.setdefault(name, []):
                asked[name].append(value)
    shown = {name: ", ".join(_plain(value) for value in values) for name, values in asked.items()}
    said = {
        "images": "{} attacked images",
        "steps": "{} steps of PGD and APGD",
        "widths": "surrogates of width {} beside the network's own",
        "shapes": "of the shape {}",
        "encodings": "{} encodings of a random coder",
        "queries_per_image": "{} queries of Square for each image",
    }
    parts = [text.format(shown[name]) for name, text in said.items() if name in shown]
    return f"Budget of the attacks: {'; '.join(parts)}." if parts else ""


def _plain(value: object) -> str:
    return " and ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)


def strength(levels: float) -> str:
    number = next((name for name, known in STRENGTHS.items() if known == levels), "")
    return f"{number}: {levels:g}/255" if number else f"{levels:g}/255"


def _variations(targets: Sequence[Target], width: int) -> list[tuple[Cell, ...]]:
    """A row for the range over parameter sets of the loss to FGSM, and of the spikes."""
    rows: list[tuple[Cell, ...]] = []
    for first, group in alike(targets):
        for levels in first.strengths:
            words = (first.coding, first.name, f"{first.bits:g}", f"variation over {len(group)}", strength(levels))
            ranges = [
                variation([t.number(name, c) if (name := t.fgsm(levels)) else _not_attacked(c) for t in group])
                for c in (LOSS, CLEAN_SPIKES)
            ]
            accuracy = variation([target.accuracy() for target in group])
            nothing = [Words("-")] * 3  # of the losses to other attacks
            row: list[Cell] = [*(Words(text) for text in words), accuracy, Words("-"), ranges[0], *nothing, ranges[1]]
            rows.append((*row, *(Words("-") for _ in range(width - len(row)))))
    return rows


def _not_attacked(column: Column) -> Number:
    return Number.absent(column.unit, "not-applicable", "not attacked at this strength")


def _subject(records: Sequence[Record]) -> str:
    return ", ".join(
        dict.fromkeys(f"{r.results[0].teacher.architecture} on {r.dataset.name}, profile {r.profile}" for r in records)
    )


def _triple(values: tuple[float, float, float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
