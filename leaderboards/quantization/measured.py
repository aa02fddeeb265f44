"""What a layout takes from the runs: which of our networks stands where, and how the set-up differs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from audit.errors import AuditError
from audit.records import Record
from leaderboards.cells import Cell, Column, Number, Words
from leaderboards.paper.measured import intervals
from leaderboards.quantization.published import Published
from leaderboards.robustness import Target, targets_of
from leaderboards.said import Said
from leaderboards.tracks import FULL_PRECISION

# What stands for the paper's coding here, the nearest first.
CODINGS: Mapping[str, tuple[str, ...]] = {
    "direct": ("direct",),
    "rate": ("unsigned-rate", "rate"),
    "phase": ("phase",),
    "latency": ("latency", "log-latency"),
}
NOT_RUN = "not run: --track robustness"
NOT_IN_THE_PAPER = "not in the paper"
BEFORE = "Q1"
Structure = tuple[float, float, float]

READINGS = (
    "The paper does not name the parameters of a triple. Read as (threshold, surrogate gain, leak), '0.4,1.0,0.5' is a "
    "leak of 0.5 per time-step and a gain of 1; read as (threshold, tau, gamma), it is a gain of 0.5 and the leak of a "
    "time constant of 1, e^-1 or 0, or a leak of 1 where tau is the factor itself. A measured network stands in the "
    "row of the triple that it is by one of these readings; thresholds of a conversion are factors of the balanced "
    "ones, which is not the paper's unit."
)


@dataclass(frozen=True)
class Measured:
    """The networks that an evasion was tried on, and the runs that they are from."""

    records: tuple[Record, ...]
    targets: tuple[Target, ...]

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Measured":
        """Raises AuditError where no run has an evasion."""
        targets = targets_of(records)
        if not targets:
            raise AuditError("none of these runs has an evasion: python -m audit --track robustness")
        return cls(tuple(records), tuple(targets))

    @property
    def structures(self) -> list[Structure]:
        return list(dict.fromkeys(target.structure for target in self.targets))

    def at(self, coding: str, stage: str, structure: Structure) -> list[Target]:
        """Networks of one of the paper's codings, before or after quantisation; of the nearest coder that was run."""
        for own in CODINGS[coding]:
            found = [
                target
                for target in self.targets
                if target.coding == own
                and target.structure == structure
                and (target.bits == FULL_PRECISION) == (stage == BEFORE)
            ]
            if found:
                return sorted(found, key=lambda target: (-target.bits, target.name))
        return []

    def beside(self, triple: Structure, known: Sequence[Structure]) -> list[Structure]:
        """The parameters that stand beside a triple: all that it can mean, or the only ones that were run.

        The only ones, where they are none of ``known``, the table's triples, stand beside the first.
        """
        means = [structure for structure in self.structures if can_mean(triple, structure)]
        alone = len(self.structures) == 1 and not any(can_mean(other, self.structures[0]) for other in known)
        if alone and triple == known[0]:
            return self.structures
        return means

    def unmatched(self, known: Sequence[Structure]) -> Iterator[Structure]:
        """Parameters that stand beside no triple."""
        taken = {structure for triple in known for structure in self.beside(triple, known)}
        yield from (structure for structure in self.structures if structure not in taken)


def can_mean(triple: Structure, structure: Structure) -> bool:
    """Whether (threshold, gain, leak) is a reading of the triple."""
    threshold, second, third = triple
    leaks = (second, math.exp(-1 / second), 1 - 1 / second)
    readings = ((threshold, second, third), *((threshold, third, leak) for leak in leaks))
    return any(all(math.isclose(a, b, abs_tol=1e-3) for a, b in zip(r, structure, strict=True)) for r in readings)


def printed(said: Said) -> Words:
    return Words(said.shown)


def paper_column(title: str, paper: Published, found: Measured, unit: str) -> Column:
    """Of published values; it names the data set where the runs have another."""
    same = all(record.dataset.name == paper.dataset for record in found.records)
    return Column(f"{title}, paper" if same else f"{title}, {paper.dataset_name} in the paper", "count", unit)


def not_run() -> Words:
    return Words(NOT_RUN, missing=True)


def read(target: Target, levels: float, column: Column) -> Cell:
    """What FGSM at this strength measured on the target, over its seeds."""
    attack = target.fgsm(levels)
    if attack is None:
        return Number.absent(column.unit, "not-applicable", "no FGSM at this strength")
    return target.number(attack, column)


def subject(found: Measured) -> str:
    first = found.records[0]
    return f"{first.results[0].teacher.architecture} on {first.dataset.name}, profile {first.profile}"


def remarks(found: Measured, paper: Published, network: str, source: str, notes: Sequence[str]) -> tuple[str, ...]:
    """Under every table: where its values are from, what is wrong with them, and how the set-up differs."""
    first = found.records[0]
    teacher = first.results[0].teacher
    width = teacher.settings.get("width")
    narrow = f" of width {width:g}" if isinstance(width, int | float) and width != 1 else ""
    steps = sorted({target.first.time_steps for target in found.targets if target.first.time_steps is not None})
    names = sorted({target.name for target in found.targets})
    images = sorted({a.images for t in found.targets for a in t.first.attacks if a.images})
    return (
        f"Published: {source}. {' '.join(notes)}".strip(),
        READINGS,
        f"Set-up: {first.dataset.name} (paper: {paper.dataset_name}); {teacher.architecture.upper()}{narrow} "
        f"(paper: {network}); T {', '.join(map(str, steps))} (paper: not stated); {', '.join(names)} (paper: trained "
        f"with surrogate gradients); {', '.join(map(str, images))} attacked images (paper: not stated). The paper's "
        "attack is FGSM; the measured one takes of several surrogates the best for each image.",
        intervals(first),
    )
