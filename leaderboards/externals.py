"""Attacks of a third party on a row's target: which are in force, and what the target leaks with them."""

from collections.abc import Mapping, Sequence

from audit.metrics.leakage import leakage
from audit.records import AttackResult, DefenseResult, Measurement, Record
from audit.worst_case import DISTANCE, REAL_DISTANCE, measurement
from leaderboards.checking import rerun_of
from leaderboards.entries import Entry, results_of

YARDSTICK = ("data", "evaluator", "measure")
# A setting of every attack that takes some of the private images; see `audit.contracts`.
LEAKED = "leaked_images"


def concerns(external: Entry, row: Entry) -> bool:
    """Whether it is about that row: by its name, or by its targets, so that the same ones under another name count."""
    about = external.record.external
    return about is not None and (about.about == row.hash or _same_targets(external, row))


def why_not(external: Entry, row: Entry) -> str | None:
    """Why an external result changes nothing, in a line; None: it is in force."""
    own, other = external.record, row.record
    if own.dataset.split_hash != other.dataset.split_hash:
        return "it was measured against another split of the data"
    if own.profile != other.profile or _yardstick(own) != _yardstick(other):
        return "it was measured by other settings of data, evaluator or measurement"
    if not _same_targets(external, row):
        return "it was run on other targets than those of the row"
    if {r.seed for r in own.results} < {r.seed for r in other.results}:
        return "it was not run under every seed of the row"
    if any(attack.settings.get(LEAKED) for defense in external.results() for attack in defense.attacks):
        return "its attack was given some of the private images"
    if rerun_of(external) not in ("attacks", "all"):
        return "nobody but its submitter has run it yet"
    return None


def with_externals(row: Entry, externals: Sequence[Entry]) -> list[DefenseResult]:
    """The row's target under each seed with the external attacks that leak something under every seed.

    One that fails takes nothing away: it is no attack.
    """
    seeds = [result.seed for result in row.record.results]
    merged = row.results()
    for entry in externals:
        found = {r.seed: d for r, d in zip(entry.record.results, entry.results(), strict=True)}
        signed = [_signed(found[seed], result, entry) for seed, result in zip(seeds, merged, strict=True)]
        valid = set.intersection(*({name for name, a in each.items() if _value(a) is not None} for each in signed))
        merged = [
            result.model_copy(
                update={
                    "attacks": (*result.attacks, *(each[name] for name in each if name in valid)),
                    "untrained": (*result.untrained, *_untrained(found[seed], valid, entry)),
                }
            )
            for seed, result, each in zip(seeds, merged, signed, strict=True)
        ]
    return merged


def _signed(found: DefenseResult, result: DefenseResult, entry: Entry) -> dict[str, AttackResult]:
    """The external attacks under names that no other record's attack has, on a scale that is not their own alone.

    What an attack makes of an untrained network is its 0. An attack may make nothing of it on purpose; so its 0 is the
    nearest that it or any attack of the row comes.
    """
    own = {attack.attack: attack for attack in found.untrained}
    nearest = [measurement(attack, DISTANCE) for attack in result.untrained]
    signed = {}
    for attack in found.attacks:
        images, real = measurement(attack, DISTANCE), measurement(attack, REAL_DISTANCE)
        null = measurement(own.get(attack.attack), DISTANCE)
        if attack.leakage is not None and images and real and null and null.value is not None:
            nulls = [null, *(m for m in nearest if m is not None and m.value is not None)]
            zero = min(nulls, key=lambda m: m.value or 0.0)
            attack = attack.model_copy(update={"leakage": leakage(images, zero, real)})
        name = _name(attack.attack, entry)
        signed[name] = attack.model_copy(update={"attack": name})
    return signed


def _untrained(found: DefenseResult, valid: set[str], entry: Entry) -> list[AttackResult]:
    named = (attack.model_copy(update={"attack": _name(attack.attack, entry)}) for attack in found.untrained)
    return [attack for attack in named if attack.attack in valid]


def _name(attack: str, entry: Entry) -> str:
    by = entry.record.submission.authors[0] if entry.record.submission else "a third party"
    return f"{attack}, by {by} ({entry.hash[:8]})"


def _value(attack: AttackResult) -> float | None:
    found: Measurement | None = attack.leakage
    return found.value if found else None


def _yardstick(record: Record) -> list[object]:
    return [record.settings_resolved.get(group) for group in YARDSTICK]


def _same_targets(external: Entry, row: Entry) -> bool:
    """Whether every seed's network is the row's, weight for weight and layer for layer."""
    there = _targets(row)
    for seed, target in _targets(external).items():
        known = there.get(seed)
        if known is None or (known[:2] != target[:2]):
            return False
        # Of a record from before it had one, weights and time-steps have to do.
        if known[2] is not None and known[2] != target[2]:
            return False
    return True


def _targets(entry: Entry) -> Mapping[int, tuple[str, int | None, str | None]]:
    found = zip(entry.record.results, results_of(entry.record, entry.defense), strict=True)
    return {r.seed: (d.target_hash, d.time_steps, d.layers_hash) for r, d in found}
