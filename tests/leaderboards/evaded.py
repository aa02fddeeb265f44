"""Runs with planted losses to evasion, for the robustness table and the layouts of the quantisation paper."""

from collections.abc import Mapping, Sequence
from typing import Any

from audit.records import AttackResult, DefenseResult, Direction, Measurement, Record
from audit.suites import STRENGTHS, SUITES, Entry
from tests.records_factory import defense, record, seed_result

LOSSES = {"I": 0.05, "II": 0.2, "III": 0.6}
EXTRA = {"fgsm": 0.0, "pgd": 0.05, "apgd": 0.06, "transfer": -0.02, "square-evasion": -0.04}


def number(name: str, value: float | None, unit: str, direction: Direction = "neutral") -> Measurement:
    known = {"low": value - 0.04, "high": value + 0.04, "interval": "planted 95 %"} if value is not None else {}
    reason = None if value is not None else "planted to be absent"
    status = "ok" if value is not None else "undefined"
    return Measurement.model_validate(
        {"name": name, "value": value, "n": 50, "unit": unit, "direction": direction, "status": status}
        | {"reason": reason}
        | known
    )


def attacked(entry: Entry, loss: float | None, spikes: float = 1.0) -> AttackResult:
    return AttackResult(
        attack=entry.label, settings={"images": 50, **entry.settings}, status="ok", images=50, images_hash="ab" * 32,
        evidence="adversarial", access="scores" if entry.attack == "square-evasion" else "weights",
        measurements=(
            number("accuracy loss", loss, "fraction", "lower is better"),
            number("accuracy on the clean images", 0.9, "fraction", "higher is better"),
            number("spikes per neuron, clean", spikes, "spikes"),
            number("spikes per neuron, attacked", spikes + 0.1, "spikes"),
            number("change of spikes per neuron", 0.1, "change in spikes"),
            *(
                number(f"{root}NSR, {of}", 0.5, "ratio of norms" if root else "ratio of powers", "lower is better")
                for root in ("", "root ")
                for of in ("coded input", "mean over layers")
            ),
        ),
    )  # fmt: skip


def target(
    coding: str = "direct",
    bits: int | None = None,
    structure: Sequence[float] = (1.0, 1.0, 1.0),
    name: str = "",
    more: float = 0.0,
    losses: Mapping[str, float | None] | None = None,
    spikes: float = 1.0,
    accuracy: float = 0.9,
) -> DefenseResult:
    """``more``: added to every loss; ``losses``: by label, instead."""
    threshold, gain, leak = structure
    settings: dict[str, Any] = {
        "coding": coding, "bits": bits, "firing_threshold": threshold, "surrogate_gain": gain, "leak": leak,
    }  # fmt: skip
    attacks = []
    for entry in SUITES["robustness-v1"].entries:
        kind, _, strength = (entry.variant or "").rpartition(" ")
        value: float | None = LOSSES[strength] + EXTRA[kind or entry.attack] + more
        attacks.append(attacked(entry, (losses or {}).get(entry.label, value), spikes))
    together = [
        number(f"accuracy loss, all evasions, {levels:g}/255", max(m.measurements[0].value or 0 for m in each) + 0.04,
               "fraction", "lower is better")
        for levels in STRENGTHS.values()
        if (each := [attack for attack in attacks if attack.settings["levels"] == levels])
    ]  # fmt: skip
    own = name or ("conversion" if bits is None else "quantized")
    found = defense(own, accuracy, attacks, requested=True, notes={"bits per weight": bits} if bits else {})
    size = number("model size", 1000.0 * (bits or 32), "bits", "lower is better")
    hashes = {"target_hash": f"{abs(hash((own, bits, *structure))):064x}"[:64], "layers_hash": coding}
    return found.model_copy(update={"settings": settings, "size": size, "evasions": tuple(together), **hashes})


def run(*targets: DefenseResult, dataset: str = "cifar10", seeds: int = 1) -> Record:
    """The same targets under every seed."""
    results = [seed_result(seed).model_copy(update={"defenses": targets, "controls": ()}) for seed in range(seeds)]
    made = record(results=results)
    named = made.dataset.model_copy(update={"name": dataset})
    return made.model_copy(update={"dataset": named, "suites": ("robustness-v1",)})
