"""A hand-made record, complete and small: what tables and reports are tested with."""

from collections.abc import Sequence
from typing import Any

from audit.records import (
    AttackResult,
    DatasetInfo,
    DefenseResult,
    Direction,
    Energy,
    Environment,
    LayerOperations,
    Measurement,
    NetworkInfo,
    Record,
    SeedResult,
    StageInfo,
    Status,
)

FD = "FD, evaluator features"
RECOGNISED = "recognised by the evaluator"
HOSTILE = "<script>alert('a|b & c_d $x^2$ 100% #1 {~} \\ `q` *s*')</script>"

MOVED = "image moved by, grey levels"


def accuracy(value: float, n: int = 400) -> Measurement:
    return Measurement(
        name="accuracy",
        value=value,
        low=max(0.0, value - 0.02),
        high=min(1.0, value + 0.015),
        interval="Wilson 95 %",
        n=n,
        unit="fraction",
        direction="higher is better",
    )


def distance(value: float, n: int = 200) -> Measurement:
    return Measurement(
        name=FD,
        value=value,
        low=value * 0.93,
        high=value * 1.08,
        interval="bootstrap 95 %",
        n=n,
        unit="distance",
        direction="lower means more leakage",
    )


def recognised(value: float, n: int = 200, direction: Direction = "higher means more leakage") -> Measurement:
    return Measurement(
        name=RECOGNISED,
        value=value,
        low=max(0.0, value - 0.05),
        high=min(1.0, value + 0.05),
        interval="Wilson 95 %",
        n=n,
        unit="fraction",
        direction=direction,
    )


def no_inception(n: int = 200) -> Measurement:
    return Measurement(
        name="FID, Inception",
        value=None,
        n=n,
        unit="distance",
        direction="lower means more leakage",
        status="insufficient",
        reason=f"{n} images for 2,048 features: the covariance has no full rank; at least 2,049 are needed",
    )


def leaked(value: float | None, status: Status, reason: str | None) -> Measurement | None:
    """As much as is recognised; none where the attack does not apply."""
    if status == "not-applicable":
        return None
    return Measurement(
        name="leakage", value=value, n=200 if value is not None else 0, unit="fraction",
        direction="higher means more leakage", status=status, reason=reason if value is None else None,
    )  # fmt: skip


def attack(
    name: str,
    fd: float | None,
    hit: float | None,
    *,
    status: Status = "ok",
    reason: str | None = None,
    notes: dict[str, Any] | None = None,
) -> AttackResult:
    measured: list[Measurement] = []
    if fd is not None and hit is not None:
        measured = [distance(fd), no_inception(), recognised(hit)]
    return AttackResult(
        attack=name,
        leakage=leaked(hit, status, reason),
        settings={"updates": 149, "eta": 6.0, "blur_every": 4},
        status=status,
        reason=reason,
        images=200 if measured else 0,
        images_hash="c0ffee" * 10 if measured else None,
        measurements=tuple(measured),
        notes=notes or {},
    )


def energy(total: float, steps: int = 64) -> Energy:
    layers = tuple(
        LayerOperations(
            name=name,
            ann_multiply_accumulates=macs,
            accumulates=macs * total * scale,
            multiply_accumulates=macs * 0.05 if i else 0.0,
            input_density=0.1 + 0.02 * i,
            spikes_per_neuron=None if name == "classifier.3" else steps * (0.16 - 0.03 * i) * total / 2,
        )
        for i, (name, macs, scale) in enumerate(
            [("features.0", 147_456.0, 1.3), ("features.3", 2_359_296.0, 1.1), ("features.6", 1_179_648.0, 0.8),
             ("classifier.0", 262_144.0, 0.6), ("classifier.3", 1_280.0, 0.4)]
        )
    )  # fmt: skip
    ratios = [("total over T, 45nm-float32", 5.1 / total), ("total over T, 45nm-int32", 32 / total),
              ("mean per time-step, 45nm-float32", 5.1 * steps / total),
              ("mean per time-step, 45nm-int32", 32 * steps / total)]  # fmt: skip
    measured = tuple(
        Measurement(
            name=f"energy ratio ANN/SNN, {name}", value=value, low=value * 0.97, high=value * 1.03,
            interval="bootstrap 95 %", n=400, unit="ratio", direction="higher is better",
        )
        for name, value in ratios
    )  # fmt: skip
    return Energy(time_steps=steps, images=400, layers=layers, measurements=measured)


def defense(
    name: str,
    value: float,
    attacks: Sequence[AttackResult],
    *,
    steps: int | None = 64,
    requested: bool = False,
    real_data: bool = False,
    notes: dict[str, Any] | None = None,
) -> DefenseResult:
    curve = () if steps is None else tuple((t, accuracy(value - 0.6 / t)) for t in (2, 4, 8, 16, 32, 64))
    return DefenseResult(
        defense=name,
        origin=f"defenses.{name.replace('-', '_')}",
        summary=f"What {name} does, in a line.",
        requested=requested,
        data_access="training-images" if real_data else "none",
        settings={"time_steps": steps, "percentile": 99.9},
        target_hash="ab12" * 16,
        time_steps=steps,
        accuracy=accuracy(value),
        accuracy_over_time=curve,
        energy=None if steps is None else energy(2.7 if name != "privatesnn" else 1.9),
        attacks=tuple(attacks),
        notes=notes or {},
    )


def seed_result(seed: int = 0, shift: float = 0.0) -> SeedResult:
    diverged = attack(
        "direct-inversion",
        None,
        None,
        status="failed",
        reason="the image left the number range after update 37 of 149: step size 0.01 without normalisation",
    )
    loss = [2.1, 1.2, 0.7, 0.45, 0.31, 0.22, 0.2, 0.19]
    return SeedResult(
        seed=seed,
        teacher=NetworkInfo(
            architecture="vgg5", settings={"width": 1.0}, parameters=812_906, multiply_accumulates=3_949_824,
            hash="7eac" * 16, accuracy=accuracy(0.9825 + shift),
        ),
        evaluator=NetworkInfo(
            architecture="vgg5", settings={"width": 0.75}, parameters=460_000, multiply_accumulates=2_300_000,
            hash="e7a1" * 16, accuracy=accuracy(0.975 + shift),
        ),
        controls=(
            attack("real images", 4.2, 0.975),
            attack("uniform noise", 612.4, 0.1),
        ),
        defenses=(
            defense("none", 0.9825 + shift, [attack("reconversion", 88.1, 0.99),
                attack("direct-inversion", None, None, status="not-applicable", reason="the target is not spiking")],
                steps=None, real_data=True),
            defense("conversion", 0.9775 + shift, [attack("reconversion", 90.2 + shift, 0.985, notes={MOVED: 0.41}),
                attack("direct-inversion", 480.0, 0.12, notes={MOVED: 0.02})], real_data=True),
            defense("data-free-conversion", 0.9725 + shift,
                [attack("reconversion", 91.7, 0.98, notes={MOVED: 0.42}),
                 attack("direct-inversion", 471.3, 0.14, notes={MOVED: 0.03})], notes={"synthetic_images": 500}),
            defense("dc-cet", 0.9475 + shift, [attack("reconversion", 388.0, 0.21, notes={MOVED: 0.44}),
                attack("direct-inversion", 502.0, 0.11, notes={MOVED: 0.02})],
                notes={"synthetic_images": 500, "training_loss": [x * 1.3 for x in loss]}),
            defense("privatesnn", 0.965 + shift,
                [attack("reconversion", 401.5, 0.165, notes={MOVED: 0.43}), diverged],
                requested=True, notes={"synthetic_images": 500, "training_loss": loss}),
        ),
    )  # fmt: skip


def record(
    seeds: Sequence[int] = (0,), *, results: Sequence[SeedResult] | None = None, command: str | None = None
) -> Record:
    if results is None:
        results = [seed_result(seed, 0.004 * i) for i, seed in enumerate(seeds)]
    names = ("data", "teacher", "evaluator", "synthetic images", "target privatesnn", "attack reconversion", "measure")
    return Record(
        created="2025-03-01T10:00:00+00:00",
        command=command or "python -m audit --defense privatesnn --attack all",
        profile="smoke",
        dataset=DatasetInfo(
            name="digits",
            classes=("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
            image_shape=(1, 16, 16),
            counts={"teacher": 1000, "evaluator": 397, "test": 400},
            split_hash="5a1f" * 16,
        ),
        settings_passed={"defense": "privatesnn", "attack": "all", "defense.time_steps": "64"},
        settings_resolved={
            "dataset": "digits", "model": "vgg5", "seeds": list(seeds),
            "defense": {"privatesnn": {"time_steps": 64, "m": 0.7, "tau": 20.0}},
            "attack": {"reconversion": {"eta": 6.0, "updates": 149}},
        },
        feature_extractor="the evaluator's penultimate layer (64 features)",
        results=tuple(results),
        stages=tuple(
            StageInfo(name=name, key=f"{i:02x}" * 32, seed=seeds[0], cached=i in (1, 2), wall_seconds=0.4 + 11.3 * i,
                      cpu_seconds=0.7 + 20.0 * i)
            for i, name in enumerate(names)
        ),
        environment=Environment(
            version="0.1.0", code_hash="c0de" * 16, git_revision="34f959b", python="3.11.9",
            packages={"torch": "2.6.0", "numpy": "2.1.0"}, platform="Linux x86_64", device="cpu", threads=2,
        ),
    )  # fmt: skip


def replace_everywhere(value: Any, old: str, new: str) -> Any:
    """The same JSON value with every string that equals ``old`` replaced; keys stay."""
    if isinstance(value, dict):
        return {key: replace_everywhere(item, old, new) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_everywhere(item, old, new) for item in value]
    return new if value == old else value


def hostile_record() -> Record:
    """Names and reasons that try to break every format they are written into."""
    document = record().model_dump(mode="json")
    for name in (
        "digits",
        "privatesnn",
        "reconversion",
        "three",
        FD,
        "features.3",
        "the target is not spiking",
        "torch",
    ):
        document = replace_everywhere(document, name, f"{HOSTILE} {name}")
    document["settings_resolved"][HOSTILE] = HOSTILE
    document["command"] = f"python -m audit --out {HOSTILE}"
    return Record.model_validate(document)
