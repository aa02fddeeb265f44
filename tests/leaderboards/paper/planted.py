"""Runs with planted accuracies and leakages, for the layouts of the paper."""

from collections.abc import Sequence

from audit.records import AttackResult, DefenseResult, Measurement, Record, SeedResult
from tests.records_factory import accuracy, attack, defense, record, seed_result

SUITE = ("class-leakage-v1",)
# Per seed around a mean: a Student t interval of three that is about 5 points wide.
SPREAD = (-0.01, 0.0, 0.01)


def leakage(value: float | None, reason: str = "it fails on the undefended twin too") -> Measurement:
    return Measurement(
        name="leakage", value=value, n=200 if value is not None else 0, unit="fraction",
        direction="higher means more leakage", status="ok" if value is not None else "void",
        reason=reason if value is None else None,
    )  # fmt: skip


def inversion(name: str, value: float | None) -> AttackResult:
    return attack(name, 40.0, 0.5).model_copy(update={"leakage": leakage(value)})


def target(name: str, *attacks: AttackResult, real_data: bool = False, steps: int = 64) -> DefenseResult:
    trained = {"synthetic_images": 320, "training_loss": [1.0]} if name in ("dc-cet", "privatesnn") else {}
    return defense(
        name, 0.9, attacks, requested=True, real_data=real_data, steps=steps, notes={"synthetic_images": 320} | trained
    )


def run(*targets: Sequence[DefenseResult], dataset: str = "cifar10", suites: tuple[str, ...] = SUITE) -> Record:
    """``targets``: for each defense its result per seed."""
    base = [seed_result(seed) for seed in range(len(targets[0]))]
    results: list[SeedResult] = [
        result.model_copy(update={"defenses": tuple(own[i] for own in targets)}) for i, result in enumerate(base)
    ]
    made = record(results=results)
    return made.model_copy(update={"dataset": made.dataset.model_copy(update={"name": dataset}), "suites": suites})


def leaking(name: str, worst: float, spread: Sequence[float] = SPREAD, real_data: bool = False) -> list[DefenseResult]:
    """A target whose worst attack leaks ``worst`` under three seeds, more or less."""
    return [
        target(name, inversion("adaptive-inversion", worst + by), inversion("reconversion", 0.0), real_data=real_data)
        for by in spread
    ]


def converted(name: str, steps: int, value: float, images: int = 320) -> DefenseResult:
    """A point of a sweep, without attacks."""
    found = target(name, steps=steps)
    return found.model_copy(
        update={
            "accuracy": accuracy(value),
            "notes": found.notes | {"synthetic_images": images},
            "settings": {"time_steps": steps, "synthetic_images": images},
        }
    )
