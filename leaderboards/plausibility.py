"""Whether a record can be what it says: ranges, intervals, counts, and what follows from something else in it."""

import math
import re
from collections.abc import Iterator
from datetime import datetime

from audit.records import AttackResult, DefenseResult, Energy, GradientHealth, Measurement, Record
from leaderboards.cells import SIGNED

ROUNDING = 1e-9
# Of the same sums, added in another order; a distance takes the roots of a matrix's eigenvalues.
CLOSE = 1e-6
# Squared or summed distances that cannot be below 0; unbiased kernel distances can.
NEVER_NEGATIVE = ("FD", "FID", "nearest private image")
WILSON = "Wilson 95 %"
MOST_POINTS = 10_000
BARRIER = "interpolation barrier"
# What a layer is called, its own name or the path to it; it stands on tables and figures.
LAYER = re.compile(r"[A-Za-z0-9_.]{1,60}")
PROBES = 16  # images behind the share of missing gradients
ABSENT = ("insufficient", "undefined")


def implausible(m: Measurement) -> str | None:
    """What is wrong with it, in a line; None where nothing is."""
    if (m.value is None) == (m.status == "ok"):
        return f"status {m.status} with the value {m.value}"
    if m.value is None:
        return None if m.low is None and m.high is None else "an interval without a value"
    if m.n <= 0:
        return f"a value from {m.n} images"
    return _range(m, m.value) or _interval(m, m.value) or _proportion(m, m.value)


def _range(m: Measurement, value: float) -> str | None:
    low = -math.inf
    if m.unit == "fraction":
        low = -1.0 if m.name in SIGNED else 0.0
    elif m.unit in ("ratio", "pJ", "spikes", "operations") or m.name.startswith(NEVER_NEGATIVE):
        low = 0.0
    high = 1.0 if m.unit == "fraction" else math.inf
    if not low - ROUNDING <= value <= high + ROUNDING:
        return f"{value:g} is outside [{low:g}, {high:g}]"
    if m.unclipped is not None and abs(min(1.0, max(0.0, m.unclipped)) - value) > ROUNDING:
        return f"{value:g} is not {m.unclipped:g} cut to [0, 1]"
    return None


def _interval(m: Measurement, value: float) -> str | None:
    if (m.low is None) != (m.high is None):
        return "half an interval"
    if m.low is None or m.high is None:
        return None
    size = max(1.0, abs(value))
    if not m.low - ROUNDING * size <= value <= m.high + ROUNDING * size:
        return f"{value:g} lies outside its interval [{m.low:g}, {m.high:g}]"
    return None


def _proportion(m: Measurement, value: float) -> str | None:
    """A proportion of n is a whole number of them, and has one Wilson interval."""
    if m.interval != WILSON or m.low is None or m.high is None:
        return None
    from audit.metrics.statistics import wilson

    hits = round(value * m.n)
    if abs(value * m.n - hits) > 1e-6 * max(1, m.n):
        return f"{value:g} of {m.n} images is no whole number of them"
    low, high = wilson(hits, m.n)
    if abs(low - m.low) > 1e-6 or abs(high - m.high) > 1e-6:
        return f"the Wilson interval of {hits} in {m.n} is [{low:.4f}, {high:.4f}], not [{m.low:.4f}, {m.high:.4f}]"
    return None


def contradictions(record: Record) -> Iterator[str]:
    """What in the record does not follow from the rest of it, a line each."""
    try:
        datetime.fromisoformat(record.created)
    except ValueError:
        yield f"it was created at no time: {record.created[:40]!r}"
    tests = record.dataset.counts.get("test", 0)
    classes = len(record.dataset.classes)
    points = record.settings_resolved["measure"]["curve_points"]
    for result in record.results:
        seed = f"seed {result.seed}"
        roles = {"teacher": result.teacher, "evaluator": result.evaluator, "second evaluator": result.second_evaluator}
        for role, network in roles.items():
            if network is not None:
                yield from _accuracy(f"{seed}: ", f"accuracy of the {role}", network.accuracy, tests)
        if (result.evaluator, result.second_evaluator) != (
            record.results[0].evaluator,
            record.results[0].second_evaluator,
        ):
            yield f"{seed}: the evaluators are others than those of the first seed"
        for control in result.controls:
            bare = AttackResult.model_validate(
                {field: getattr(control, field) for field in ("attack", "images", "images_hash", "scores_hash")}
                | {"settings": {}, "status": "ok", "measurements": control.measurements}
            )
            if control != bare or not control.images or None in (control.images_hash, control.scores_hash):
                yield f"{seed}: {control.attack} is no set of images that no attack made"
        for defense in result.defenses:
            where = f"{seed}, {defense.defense}"
            yield from (f"{where}: {line}" for line in _defense(defense, tests, classes))
            yield from (f"{where}: {line}" for line in _curve(defense, tests, points))


def _accuracy(where: str, name: str, m: Measurement, tests: int) -> Iterator[str]:
    """It is a whole number of the test images with Wilson's interval, or it has no value and says why."""
    from audit.metrics.statistics import proportion, without_value

    if m.n != tests:
        yield f"{where}{name} on {m.n} images, not on the {tests} of the test set"
    elif m.value is None:
        if m.status not in ABSENT or m != without_value(name, tests, "fraction", m.direction, m.status, m.reason or ""):
            yield f"{where}{name} has no value, and not what explains it"
    else:
        expected = proportion(name, round(m.value * tests), tests, m.direction)
        if m != expected.model_copy(update={"low": m.low, "high": m.high}) or m.low is None:
            yield f"{where}{name} is not what a share of {tests} images is"
    if m.direction != "higher is better":
        yield f"{where}{name}: {m.direction}"


def _defense(defense: DefenseResult, tests: int, classes: int) -> Iterator[str]:
    yield from _accuracy("", "accuracy", defense.accuracy, tests)
    if (defense.energy is None) != (defense.time_steps is None):
        yield "energy is measured of spiking targets, and of all of them"
    if defense.energy is not None:
        yield from _energy(defense.energy, defense.time_steps, tests)
    if defense.size is not None:
        yield from _size(defense.size)
    if defense.gradients is not None:
        yield from _gradients(defense.gradients)
    for attack in defense.attacks:
        yield from (f"{attack.attack}: {line}" for line in _attack(attack, classes, tests))
    for attack in defense.untrained:
        name = f"{attack.attack} on its untrained twin"
        yield from (f"{name}: {line}" for line in _attack(attack, classes, tests))
        if attack.leakage is not None:
            yield f"{name} has a leakage; it is what leakage is counted from"


def _curve(defense: DefenseResult, tests: int, points: int) -> Iterator[str]:
    """Its points are where the settings put them, and the last is the accuracy."""
    steps, last = defense.time_steps or 0, defense.accuracy
    wanted = sorted(
        {max(1, round(steps * k / points)) for k in range(1, min(points, MOST_POINTS) + 1)} if steps else ()
    )
    if [t for t, _ in defense.accuracy_over_time] != wanted:
        yield f"accuracy over time is measured at {wanted}"
    for t, m in defense.accuracy_over_time:
        yield from _accuracy("", f"accuracy at T={t}", m, tests)
        if t == steps and m != last.model_copy(update={"name": m.name}):
            yield f"accuracy over time does not end with the accuracy at T = {steps}"


def _size(size: Measurement) -> Iterator[str]:
    from audit.metrics.robustness import FULL_PRECISION, model_size

    if not size.n or size.value is None or size != model_size(size.n, size.value / size.n):
        yield "the size is not that of some weights of some bits"
    elif not 0 < size.value <= FULL_PRECISION * size.n:
        yield f"{size.value:g} bits for {size.n} weights"


def _energy(energy: Energy, time_steps: int | None, tests: int) -> Iterator[str]:
    from audit.metrics.energy import energy as measured

    if odd := [layer.name for layer in energy.layers if not LAYER.fullmatch(layer.name)]:
        yield f"energy: a layer is called {odd[0][:80]!r}: letters, digits, '_' and '.', 60 at most"
    if (energy.time_steps, energy.images) != (time_steps, tests):
        yield f"energy of {energy.time_steps} time-steps on {energy.images} images"
    try:
        again = measured(energy.layers, energy.time_steps, energy.images)
    except ValueError as error:
        yield f"energy: {error}"
        return
    for own, fresh in zip(energy.measurements, again.measurements, strict=False):
        if own != fresh:
            yield f"{own.name} is claimed as {own.value}; the operations of its layers give {fresh.value}"
    if len(energy.measurements) != len(again.measurements):
        yield "not every measurement of the energy is there"


def _gradients(found: GradientHealth) -> Iterator[str]:
    """Ranges, and the flags that follow; whether it is silent is seen in its answers only."""
    from audit.health import LEAST_COSINE, LEAST_GAIN, MOST_MISSING

    agreement = found.agreement
    masked = agreement is not None and (found.missing > MOST_MISSING or not agreement >= LEAST_COSINE)
    flags = {
        "masked-gradients": masked,
        "loss-does-not-fall": not found.gain > LEAST_GAIN,
        "eval-mode-gradient": found.missing == 1 and found.train_eval == 1,
    }
    raised = tuple(flag for flag in flags if flags[flag])
    if found.flags not in (raised, ("silent", *raised)):
        yield f"the gradient's flags are [{', '.join(found.flags)}]; its numbers give [{', '.join(raised)}]"
    if not 0 <= found.missing <= found.zero <= 1 or (found.missing * PROBES) % 1:
        yield f"a gradient that is zero on {found.missing:g} of the images and in {found.zero:g} of its entries"
    if abs(agreement or 0) > 1 + ROUNDING or found.train_eval < 0 or not math.isfinite(found.gain + found.train_eval):
        yield "a gradient with a cosine above 1, or a negative or infinite difference"


def _attack(attack: AttackResult, classes: int, tests: int) -> Iterator[str]:
    """What is there is what its status and its evidence say."""
    from audit.verdicts import MEASURED

    if set(attack.flags) - set(MEASURED) - {"prototypes-beat-reality"}:
        yield f"flags {', '.join(attack.flags)}"
    if attack.status != "ok":
        kept = (attack.images, attack.images_hash, attack.measurements, attack.scores_hash, attack.flags)
        if kept != (0, None, (), None, ()) or not attack.reason or attack.status in (*ABSENT, "void"):
            yield f"it is '{attack.status}', which has a reason and nothing else"
        return
    if attack.reason is not None or attack.images_hash is None or not attack.measurements:
        yield "it is 'ok', but has a reason, no hash or no measurements"
    per_class = attack.settings.get("images_per_class")
    wanted = per_class * classes if attack.evidence == "images" and isinstance(per_class, int) else 0
    if attack.evidence == "adversarial":
        wanted = min(int(attack.settings.get("images", tests)), tests)
    if attack.images != wanted and (attack.evidence != "images" or per_class is not None):
        yield f"{attack.images} images, not {wanted}"
    if (attack.scores_hash is None) != (attack.evidence == "weights"):
        yield f"evidence of '{attack.evidence}' with{'out' if attack.scores_hash is None else ''} raw scores"
    if attack.evidence == "weights":
        yield from _recovery(attack, tests)


def _recovery(attack: AttackResult, tests: int) -> Iterator[str]:
    """A recovered network beside the teacher: what is measured, in what unit, on how many images."""
    from audit.metrics.weights import LESS, MORE

    layers = attack.measurements[0].n
    of_layers = "Student t 95 % over layers" if layers > 1 else None
    forms = (
        ("weight cosine", layers, "", MORE, of_layers),
        ("relative weight distance", layers, "", LESS, of_layers),
        (BARRIER, tests if layers else 0, "fraction" if layers else "", LESS, None),
        ("linear CKA with the teacher", tests, "", MORE, None),
        ("accuracy of the recovered network", tests, "fraction", MORE, WILSON),
    )
    found = tuple(
        (m.name, m.n, m.unit, m.direction, form[-1] if m.value is None else m.interval)
        for m, form in zip(attack.measurements, forms, strict=False)
    )
    if found != forms or len(attack.measurements) != len(forms):
        yield f"a recovered network's measurements are {', '.join(form[0] for form in forms)}"
    for m in attack.measurements:
        if m.value is not None and m.reason is not None and m.name != BARRIER:
            yield f"{m.name} has a value, and a reason why it has none"
        if m.interval is None:
            continue
        if m.value is None or m.low is None or m.high is None:
            yield f"{m.name} says how an interval was made, and has none"
        elif m.interval != WILSON and abs((m.low + m.high) / 2 - m.value) > ROUNDING * max(1.0, m.high - m.low):
            yield f"{m.name}: Student's interval is not around its value"


def same(own: Measurement, again: Measurement) -> bool:
    """Equal but for the order in which another machine adds."""
    numbers = ("value", "low", "high", "unclipped")
    if own.model_copy(update=dict.fromkeys(numbers)) != again.model_copy(update=dict.fromkeys(numbers)):
        return False
    pairs = [(getattr(own, name), getattr(again, name)) for name in numbers]
    return all(a == b or (None not in (a, b) and math.isclose(a, b, rel_tol=CLOSE, abs_tol=CLOSE**2)) for a, b in pairs)
