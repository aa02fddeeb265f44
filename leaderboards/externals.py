"""Attacks of a third party on a row's target: which are in force, and the target with them."""

from collections.abc import Sequence

from audit.records import AttackResult, DefenseResult, Record
from leaderboards.checking import rerun_of
from leaderboards.entries import Entry, results_of

YARDSTICK = ("data", "evaluator", "measure")


def why_not(external: Entry, about: Entry) -> str | None:
    """Why an external result changes nothing yet, in a line; None: it is in force."""
    own, other = external.record, about.record
    if own.dataset.split_hash != other.dataset.split_hash:
        return "it was measured against another split of the data"
    if own.profile != other.profile or _yardstick(own) != _yardstick(other):
        return "it was measured by other settings of data, evaluator or measurement"
    if not _same_targets(own, other, external.defense, about.defense):
        return "it was run on other weights than those of the row"
    if rerun_of(external) not in ("attacks", "all"):
        return "nobody but its submitter has run it yet"
    return None


def with_externals(result: DefenseResult, seed: int, externals: Sequence[Entry]) -> DefenseResult:
    """The target under a seed with the external attacks on it."""
    attacks, untrained = list(result.attacks), list(result.untrained)
    for entry in externals:
        found = {r.seed: d for r, d in zip(entry.record.results, entry.results(), strict=True)}.get(seed)
        if found is not None:
            attacks += [_signed(attack, entry) for attack in found.attacks]
            untrained += [_signed(attack, entry) for attack in found.untrained]
    return result.model_copy(update={"attacks": tuple(attacks), "untrained": tuple(untrained)})


def _signed(attack: AttackResult, entry: Entry) -> AttackResult:
    """Under a name that no other record's attack has."""
    by = entry.record.submission.authors[0] if entry.record.submission else "a third party"
    return attack.model_copy(update={"attack": f"{attack.attack}, by {by} ({entry.hash[:8]})"})


def _yardstick(record: Record) -> list[object]:
    return [record.settings_resolved.get(group) for group in YARDSTICK]


def _same_targets(own: Record, other: Record, name: str, about: str) -> bool:
    """Whether every seed's network is the row's, weight for weight and layer for layer."""
    there = {r.seed: d for r, d in zip(other.results, results_of(other, about), strict=True)}
    for result, defense in zip(own.results, results_of(own, name), strict=True):
        twin = there.get(result.seed)
        if twin is None or twin.target_hash != defense.target_hash:
            return False
        # Of a record from before it had one, the weights have to do.
        if None not in (twin.layers_hash, defense.layers_hash) and twin.layers_hash != defense.layers_hash:
            return False
    return True
