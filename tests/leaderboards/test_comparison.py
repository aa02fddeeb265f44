"""A re-run beside the record: what has to be the same, what may differ and how far, and what is said of the rest."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from audit.errors import AuditError
from audit.records import AttackResult, DefenseResult, Measurement, Record
from audit.verdicts import judged, unjudged
from audit.worst_case import DISTANCE, REAL_DISTANCE, measurement
from leaderboards.cells import Footnotes
from leaderboards.comparison import compare, compare_access, other_weights
from leaderboards.entries import UNDEFENDED
from leaderboards.leakage import worst_of
from tests.leaderboards.hostile import Contents, Place, put

OWN = ("results", 0, "defenses", 1)
CHECKPOINT = "checkpoint"


def changed(record: Record, path: Place, value: Any) -> Record:
    return Record.model_validate(put(record.model_dump(mode="json"), path, value))


def leaking(defense: DefenseResult, leakages: Mapping[str, float]) -> DefenseResult:
    """With these attacks only, whose images are as near to the private ones as makes these leakages."""
    attacks = []
    for attack in (a for a in defense.attacks if a.attack in leakages):
        null = next(a for a in defense.untrained if a.attack == attack.attack)
        far, near = (m.value for m in (measurement(null, DISTANCE), measurement(attack, REAL_DISTANCE)) if m)
        assert far is not None
        assert near is not None
        distance = far - leakages[attack.attack] * (far - near)
        attacks.append(_with(attack, lambda m, d=distance: {"value": d} if m.name == DISTANCE else {}))
    return defense.model_copy(update={"attacks": tuple(attacks)})


def _with(attack: AttackResult, change: Callable[[Measurement], dict[str, Any]]) -> AttackResult:
    measurements = tuple(m.model_copy(update=change(m)) for m in attack.measurements)
    return attack.model_copy(update={"measurements": measurements})


def seeded(record: Record, by_seed: Sequence[Mapping[str, float]], undefended: bool = False) -> Record:
    """A seed for each mapping of leakages by attack, those of the defense or of the undefended network."""
    results = []
    for seed, leakages in enumerate(by_seed):
        twin, own = record.results[0].defenses
        twin, own = (leaking(twin, leakages), own) if undefended else (twin, leaking(own, leakages))
        defenses = judged(unjudged((twin, own)), UNDEFENDED)
        results.append(record.results[0].model_copy(update={"seed": seed, "defenses": defenses}))
    return record.model_copy(update={"results": tuple(results)})


def test_a_rerun_that_gives_the_same_numbers_has_no_differences(good: Contents) -> None:
    assert compare(good.record, good.record, "privatesnn") == (
        "largest differences: accuracy 0.000 (of 0.02), energy 0.000 (of 0.05), leakage of an attack 0.000 (of 0.1), "
        "worst leakage 0.000 (of 0.05), AUC 0.000 (of 0.05), weight recovery 0.000 (of 0.05)"
    )


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("accuracy", "value"), 0.9, r"seed 0, privatesnn: accuracy is 0\.\d+ in the record and 0.900 here; 0.02"),
        (("energy", "measurements", 0, "value"), 50.0, "seed 0, privatesnn: energy ratio is .* and 50.000 here; 0.05"),
        (("attacks", 0, "status"), "failed", "reconversion is 'ok' in the record, 'failed' here"),
        (("attacks", 0, "attack"), "mine", "reconversion is 'ok' in the record, 'absent' here"),
        (("attacks", 0, "evidence"), "weights", r"reconversion: leakage is 0\.\d+ in the record and without a value"),
        (("attacks", 12, "measurements", 1, "value"), 0.1, r"membership-inference: AUC, .* is 0\.\d+ in the record"),
        (("attacks", 10, "measurements", 0, "value"), 0.1, "weight-recovery: weight cosine is 1.000 in the record"),
        (("attacks", 10, "measurements", 3, "value"), 0.1, "weight-recovery: linear CKA with the teacher is"),
        (("attacks", 10, "measurements", 4, "value"), 0.95, "weight-recovery: accuracy of the recovered network is"),
        (("time_steps",), 4, "seed 0, privatesnn: the number of time-steps is 16 in the record and 4 here"),
        (("gradients", "flags"), ["silent"], "privatesnn: the gradient is sound in the record and silent here"),
        (("gradients",), None, "privatesnn: the gradient is sound in the record and not examined here"),
        (("flags",), ["masked-gradients"], "the gradient is sound in the record and masked-gradients here"),
        (("data_access",), "training-images", "the access to private data is none in the record and training-images"),
    ],
)
def test_a_rerun_that_gives_something_else_names_the_first(
    path: Place, value: Any, reason: str, good: Contents
) -> None:
    with pytest.raises(AuditError, match=reason):
        compare(good.record, changed(good.record, (*OWN, *path), value), "privatesnn")


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("dataset", "split_hash"), "0" * 64, "digits: the split of the data is"),
        (("results", 0, "teacher", "accuracy", "value"), 0.01, "seed 0: accuracy of the teacher is .* and 0.010 here"),
    ],
)
def test_a_rerun_on_other_images_or_beside_another_teacher_is_none(
    path: Place, value: Any, reason: str, good: Contents
) -> None:
    with pytest.raises(AuditError, match=reason):
        compare(good.record, changed(good.record, path, value), "privatesnn")


def test_an_attack_that_leaks_otherwise_is_found(good: Contents) -> None:
    claimed, again = (seeded(good.record, [{"reconversion": value}]) for value in (0.4, 0.52))
    with pytest.raises(AuditError, match=r"reconversion: leakage is 0\.400 in the record and 0\.520 here; 0\.1 is"):
        compare(claimed, again, "privatesnn")
    near = seeded(good.record, [{"reconversion": 0.46}])
    with pytest.raises(
        AuditError, match=r"privatesnn: worst leakage is 0\.400 in the record and 0\.460 here; 0\.05 is"
    ):
        compare(claimed, near, "privatesnn")


def test_seeds_that_agree_better_than_they_do_are_found_by_their_interval(good: Contents) -> None:
    claimed = seeded(good.record, [{"reconversion": value} for value in (0.45, 0.451, 0.51)])
    again = seeded(good.record, [{"reconversion": value} for value in (0.40, 0.50, 0.60)])
    shown = [
        worst_of([result.defenses[1] for result in record.results], [0, 1, 2], Footnotes())[0].high
        for record in (claimed, again)
    ]
    assert shown[1] - shown[0] > 0.15
    with pytest.raises(
        AuditError, match=r"upper end of the interval of the worst leakage is 0\.556 .* and 0\.748 here"
    ):
        compare(claimed, again, "privatesnn")
    with pytest.raises(AuditError, match="upper end of the interval"):
        compare(again, claimed, "privatesnn")
    flat = seeded(good.record, [{"reconversion": 0.5}] * 3)
    wider = seeded(good.record, [{"reconversion": value} for value in (0.42, 0.50, 0.58)])
    with pytest.raises(AuditError, match=r"upper end of the interval of the worst leakage is 0\.500 in the record"):
        compare(flat, wider, "privatesnn")
    assert "upper end of its interval 0.000 (of 0.1)" in compare(claimed, claimed, "privatesnn")


def test_a_cell_that_is_void_in_one_run_only_is_compared_by_what_it_leaks(good: Contents) -> None:
    """Near the threshold rounding decides."""
    leakages = {"direct-inversion": 0.02, "reconversion": 0.5}
    claimed = seeded(good.record, [leakages])
    twin, own = claimed.results[0].defenses
    again = claimed.model_copy(
        update={
            "results": (
                claimed.results[0].model_copy(
                    update={"defenses": judged(unjudged((leaking(twin, {}), own)), UNDEFENDED)},
                ),
            )
        }
    )
    found = {a.attack: a.leakage for a in again.results[0].defenses[1].attacks}["direct-inversion"]
    assert found is not None
    assert found.status == "void"
    external = {"external": {"about": "0" * 64}}
    claimed, again = (Record.model_validate(record.model_dump() | external) for record in (claimed, again))
    assert "leakage of an attack 0.000" in compare(claimed, again, "privatesnn")


def test_an_undefended_row_is_not_void_beside_its_own_twin(good: Contents) -> None:
    """Under its own name it has no twin; as a checkpoint it has, and fails where the twin does."""
    claimed = seeded(good.record, [{"direct-inversion": 0.01, "reconversion": 0.5}] * 2, undefended=True)
    alone, again = [], []
    for result in claimed.results:
        twin = result.defenses[0].model_copy(update={"requested": True})
        alone.append(result.model_copy(update={"defenses": (twin,)}))
        target = twin.model_copy(update={"defense": CHECKPOINT, "data_access": "unknown"})
        both = judged(unjudged((twin.model_copy(update={"requested": False}), target)), UNDEFENDED)
        again.append(result.model_copy(update={"defenses": both}))
        statuses = {a.attack: a.leakage.status for a in both[1].attacks if a.leakage}
        assert statuses == {"reconversion": "ok", "direct-inversion": "void"}
    row, ran = (claimed.model_copy(update={"results": tuple(results)}) for results in (alone, again))
    assert "worst leakage 0.000" in compare(row, ran, CHECKPOINT)


def test_what_could_not_be_made_again_is_named(good: Contents) -> None:
    document = good.document
    membership = document["results"][0]["defenses"][1]["attacks"][12]
    assert membership["attack"] == "membership-inference"
    kept = [m for m in membership["measurements"] if not m["name"].endswith((", lira", ", rmia"))]
    path = (*OWN, "attacks", 12, "measurements")
    again = changed(good.record, path, kept)
    assert compare(good.record, again, "privatesnn").endswith("; not made again: AUC, lira; AUC, rmia")


def test_weights_beside_another_teacher_are_not_compared_with_it(good: Contents) -> None:
    """Submitted weights come from the submitter's teacher; on another machine the one that is trained is another."""
    again = changed(good.record, (*OWN, "attacks", 10, "measurements", 0, "value"), 0.1)
    again = changed(again, ("results", 0, "teacher", "hash"), "0" * 64)
    said = compare(good.record, again, "privatesnn")
    assert "not made again: weight cosine (another teacher); relative weight distance (another teacher)" in said
    assert "weight recovery 0.000" in said
    remade = changed(again, (*OWN, "target_hash"), "0" * 64)
    with pytest.raises(AuditError, match="weight cosine"):
        compare(good.record, remade, "privatesnn")


def test_weights_that_stand_in_the_place_of_a_defense_say_nothing_of_its_access(good: Contents) -> None:
    again = changed(good.record, (*OWN, "data_access"), "unknown")
    again = changed(again, (*OWN, "defense"), CHECKPOINT)
    assert compare(good.record, again, CHECKPOINT).startswith("largest differences")
    made = changed(good.record, (*OWN, "data_access"), "training-images")
    with pytest.raises(AuditError, match="the access to private data is none in the record and training-images here"):
        compare_access(good.record, made, "privatesnn")


def test_targets_with_other_weights_are_said_to_be(good: Contents) -> None:
    assert other_weights(good.record, good.record, "privatesnn") == ""
    again = changed(good.record, (*OWN, "target_hash"), "0" * 64)
    assert "the targets made again are other weights than the submitted" in other_weights(
        good.record, again, "privatesnn"
    )
