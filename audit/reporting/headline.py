"""The result of a run in one sentence, made of its numbers."""

from collections.abc import Sequence

from audit.records import DefenseResult, EvidenceKind, Measurement, Record
from audit.worst_case import WorstCase, worst_case

EVASION: EvidenceKind = "adversarial"


def headline(record: Record) -> str:
    """A sentence about one audited target, or which of several leaks most and least; and what it is a mean of."""
    first = record.results[0]
    asked = [d.defense for d in first.defenses if d.requested] or [d.defense for d in first.defenses]
    several = f" Means over {len(record.results)} seeds." if len(record.results) > 1 else ""
    if not any(d.attacks for result in record.results for d in result.defenses):
        return f"{_without_attacks(record, asked)}.{several}"
    if len(asked) == 1:
        return f"{_one(record, asked[0])}.{several}"
    worst = {name: worst_case(_defense(record, name)) for name in asked}
    known = {name: _value(found) for name, found in worst.items() if found.leakages}
    if not known:
        return f"No attack on any of the {len(asked)} audited targets has a leakage: it is unknown.{several}"
    most, least = max(known, key=lambda n: known[n]), min(known, key=lambda n: known[n])
    text = f"Of {len(asked)} audited targets, '{most}' leaks most: {_leak(worst[most])}"
    if least != most:
        text += f"; '{least}' leaks least: {_leak(worst[least])}"
    unknown = [name for name in asked if name not in known]
    return text + (f"; the leakage of {', '.join(unknown)} is unknown" if unknown else "") + f".{several}"


def _one(record: Record, name: str) -> str:
    defenses = _defense(record, name)
    text = _correct(record, name)
    if evaded := _evaded(defenses):
        return text + evaded
    worst = worst_case(defenses)
    if worst.leakages:
        text += f"; its class leakage is {_leak(worst)}, where 100 % is real images and 0 an untrained network"
    else:
        reason = f" ({worst.why.reason})" if worst.why and worst.why.reason else ""
        text += f"; no attack on it has a leakage, so it is unknown{reason}"
    failed = {
        a.attack
        for d in defenses
        if d
        for a in d.attacks
        if (a.leakage and a.leakage.value is None and a.leakage.status != "void")
        or a.status not in ("ok", "not-applicable")
    }
    if failed:
        text += f"; what {', '.join(sorted(failed))} would recover is unknown"
    flags = dict.fromkeys(flag for d in defenses if d for flag in d.flags)
    return text + (f"; flags: {', '.join(flags)}" if flags else "")


def _evaded(defenses: Sequence[DefenseResult | None]) -> str:
    """What the strongest evasion takes, of a record about nothing else; '' of another one."""
    found = [attack for d in defenses if d for attack in d.attacks]
    if not found or any(attack.evidence != EVASION for attack in found):
        return ""
    losses: dict[str, list[Measurement | None]] = {}
    for attack in found:
        own = next((m for m in attack.measurements if m.name == "accuracy loss"), None)
        losses.setdefault(attack.attack, []).append(own)
    means = {name: value for name, own in losses.items() if (value := _mean(own)) is not None}
    if not means:
        return f"; none of {len(losses)} evasions has a result: what they take is unknown"
    worst = max(means, key=lambda name: means[name])
    taken = f"{_percent(means[worst])} of the images that it was tried on"
    return f"; of {len(losses)} evasions {worst} takes most, {taken}"


def _without_attacks(record: Record, asked: Sequence[str]) -> str:
    if len(asked) == 1:
        return f"{_correct(record, asked[0])}; no attack was run: what it leaks is unknown"
    found = {name: _accuracy(record, name) for name in asked}
    known = ", ".join(f"{name} {'unknown' if value is None else _percent(value)}" for name, value in found.items())
    text = f"Test accuracy of {len(asked)} audited targets: {known}{_against(record)}"
    return f"{text}; no attack was run: what they leak is unknown"


def _correct(record: Record, name: str) -> str:
    accuracy = _accuracy(record, name)
    if accuracy is None:
        return f"The accuracy of {name} could not be measured"
    return f"{name} classifies {_percent(accuracy)} of the test images correctly{_against(record)}"


def _accuracy(record: Record, name: str) -> float | None:
    return _mean([d.accuracy if d else None for d in _defense(record, name)])


def _against(record: Record) -> str:
    teacher = _mean([result.teacher.accuracy for result in record.results])
    return f" (teacher: {_percent(teacher)})" if teacher is not None else ""


def _leak(worst: WorstCase) -> str:
    least = "at least " if worst.at_least else ""
    return f"{least}{_percent(_value(worst))} by {' and '.join(dict.fromkeys(worst.attacks))}"


def _value(worst: WorstCase) -> float:
    values = [m.value for m in worst.leakages if m.value is not None]
    return sum(values) / len(values)


def _defense(record: Record, name: str) -> list[DefenseResult | None]:
    return [next((d for d in result.defenses if d.defense == name), None) for result in record.results]


def _mean(measurements: Sequence[Measurement | None]) -> float | None:
    """Over the seeds; None when one of them has no value, because a mean over the others would flatter."""
    values = [m.value for m in measurements if m is not None and m.value is not None]
    return sum(values) / len(values) if values and len(values) == len(measurements) else None


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
