"""The result of a run in one sentence, made of its numbers."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from audit.records import DefenseResult, Measurement, Record

Item = TypeVar("Item")
RECOGNISED = "recognised by the evaluator"


def headline(record: Record) -> str:
    """One sentence for one audited target; for several, which leaks most and which least."""
    first = record.results[0]
    asked = [d.defense for d in first.defenses if d.requested] or [d.defense for d in first.defenses]
    several = f", mean over {len(record.results)} seeds" if len(record.results) > 1 else ""
    if len(asked) == 1:
        return _one(record, asked[0], several)
    leaks = {name: leak for name in asked if (leak := _strongest(record, name)) is not None}
    if not leaks:
        return f"No attack on any of the {len(asked)} audited targets has a recognition rate: their leakage is unknown."
    most, least = max(leaks, key=lambda n: leaks[n][1]), min(leaks, key=lambda n: leaks[n][1])
    text = f"Of {len(asked)} audited targets, {most} leaks most: the evaluator recognises {_leak(leaks[most])}"
    if least != most:
        text += f"; {least} leaks least, with {_leak(leaks[least])}"
    unknown = [name for name in asked if name not in leaks]
    return text + (f"; the leakage of {', '.join(unknown)} is unknown" if unknown else "") + f"{several}."


def _one(record: Record, name: str, several: str) -> str:
    accuracy = _mean(_defense(record, name), lambda d: d.accuracy)
    teacher = _mean([r.teacher for r in record.results], lambda t: t.accuracy)
    if accuracy is None:
        text = f"The accuracy of {name} could not be measured"
    else:
        against = f" (teacher: {_percent(teacher)})" if teacher is not None else ""
        text = f"{name} classifies {_percent(accuracy)} of the test images correctly{against}"
    leak = _strongest(record, name)
    if leak is None:
        return f"{text}; no attack on it has a recognition rate, so its class leakage is unknown{several}."
    text += f"; the evaluator recognises {_leak(leak)}"
    scale = [f"{control}: {_percent(value)}" for control, value in _controls(record)]
    text += f" ({', '.join(scale)})" if scale else ""
    failed = {a.attack for d in _defense(record, name) for a in d.attacks if a.status not in ("ok", "not-applicable")}
    return text + (f"; what {', '.join(sorted(failed))} would recover is unknown" if failed else "") + f"{several}."


def _leak(leak: tuple[str, float]) -> str:
    return f"{_percent(leak[1])} of the images that {leak[0]} makes from it"


def _strongest(record: Record, name: str) -> tuple[str, float] | None:
    """The attack whose images are recognised most often, of those with a value under every seed."""
    defenses = _defense(record, name)
    found: dict[str, float] = {}
    for attack in dict.fromkeys(a.attack for d in defenses for a in d.attacks):
        results = [next((a for a in d.attacks if a.attack == attack), None) for d in defenses]
        value = _mean(results, lambda a: _recognised(a.measurements) if a is not None else None)
        if value is not None:
            found[attack] = value
    return max(found.items(), key=lambda item: item[1]) if found else None


def _controls(record: Record) -> list[tuple[str, float]]:
    names = dict.fromkeys(control.attack for result in record.results for control in result.controls)
    found = []
    for name in names:
        controls = [next((c for c in result.controls if c.attack == name), None) for result in record.results]
        value = _mean(controls, lambda c: _recognised(c.measurements) if c is not None else None)
        if value is not None:
            found.append((name, value))
    return found


def _recognised(measurements: Sequence[Measurement]) -> Measurement | None:
    return next((m for m in measurements if m.name == RECOGNISED), None)


def _defense(record: Record, name: str) -> list[DefenseResult]:
    return [d for result in record.results for d in result.defenses if d.defense == name]


def _mean(items: Sequence[Item], measurement: Callable[[Item], Measurement | None]) -> float | None:
    """Over the seeds; None when one of them has no value, because a mean over the others would flatter."""
    values = [m.value for item in items if (m := measurement(item)) is not None and m.value is not None]
    return sum(values) / len(values) if values and len(values) == len(items) else None


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
