"""Leakage beside its controls: what is void, what is flagged, what is never ranked private."""

from typing import Any

import pytest

from audit.metrics.leakage import leakage
from audit.records import AttackResult, DefenseResult, GradientHealth, Measurement, Status
from audit.verdicts import judged
from audit.worst_case import DISTANCE, REAL_DISTANCE, worst_case
from leaderboards.cells import Number, over_seeds
from leaderboards.leakage import rank_groups
from tests.records_factory import accuracy

UNDEFENDED = "data-free-conversion"


def distance(value: float | None, status: Status = "ok") -> Measurement:
    return Measurement(
        name=DISTANCE, value=value, n=300, unit="distance", direction="lower means more leakage", status=status,
        reason=None if status == "ok" else "its reason",
    )  # fmt: skip


def attack(name: str, value: float | None, **values: Any) -> AttackResult:
    real = distance(5.0).model_copy(update={"name": REAL_DISTANCE})
    measurements = (distance(value), real) if value is not None else ()
    return AttackResult(
        **{
            "attack": name, "settings": {}, "status": "ok", "images": 300, "images_hash": "h",
            "measurements": measurements, **values,
        }
    )  # fmt: skip


def health(*flags: str) -> GradientHealth:
    return GradientHealth(missing=0, zero=0, agreement=0.5, gain=1, train_eval=0, flags=flags)


def defense(name: str, attacks: list[AttackResult], nulls: dict[str, float], **values: Any) -> DefenseResult:
    return DefenseResult(
        **{
            "defense": name, "origin": "here", "summary": "", "requested": True, "data_access": "none", "settings": {},
            "target_hash": "h", "time_steps": 8, "accuracy": accuracy(0.9), "energy": None, "attacks": tuple(attacks),
            "gradients": health(),
            "untrained": tuple(attack(key, value) for key, value in nulls.items()), **values,
        }
    )  # fmt: skip


NULLS = {"strong": 105.0, "weak": 105.0}


def test_leakage_is_0_at_the_untrained_network_and_1_at_real_images_and_stays_within() -> None:
    for value, expected in ((105.0, 0.0), (55.0, 0.5), (5.0, 1.0), (300.0, 0.0), (1.0, 1.0)):
        assert leakage(distance(value), distance(105.0), distance(5.0)).value == pytest.approx(expected)


def test_the_interval_over_seeds_is_of_values_before_they_were_cut() -> None:
    """Three seeds at 0 by very different margins are no certainty of 0."""
    found = [leakage(distance(value), distance(105.0), distance(5.0)) for value in (110.0, 150.0, 106.0)]
    assert [m.value for m in found] == [0, 0, 0]
    assert [m.unclipped for m in found] == pytest.approx([-0.05, -0.45, -0.01])
    cell = over_seeds([Number.of(m) for m in found], (0, 1, 2))
    assert cell.value == 0
    assert cell.low == 0
    assert cell.high is not None
    assert 0.3 < cell.high < 0.5  # mean -0.17, deviation 0.243, t = 4.303


def test_a_scale_without_a_length_measures_nothing() -> None:
    found = leakage(distance(4.0), distance(5.1), distance(5.0))
    assert (found.value, found.status) == (None, "undefined")
    assert "as near as real ones" in (found.reason or "")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_missing_distance_keeps_its_status_and_reason(place: int) -> None:
    distances = [distance(50.0), distance(105.0), distance(5.0)]
    distances[place] = distance(None, "insufficient")
    found = leakage(*distances)
    assert (found.value, found.status) == (None, "insufficient")
    assert "its reason" in (found.reason or "")


def test_an_attack_that_fails_on_the_undefended_twin_is_void_elsewhere_and_not_private() -> None:
    twin = defense(UNDEFENDED, [attack("strong", 25.0), attack("weak", 104.0)], NULLS)
    target = defense("mine", [attack("strong", 65.0), attack("weak", 104.0)], NULLS)
    first, second = judged([twin, target], UNDEFENDED)
    values = [a.leakage.value for a in first.attacks if a.leakage]
    assert values == pytest.approx([0.8, 0.01]), "the control keeps its own value"
    strong, weak = (a.leakage for a in second.attacks)
    assert strong is not None
    assert strong.value == pytest.approx(0.4)
    assert weak is not None
    assert (weak.value, weak.status) == (None, "void")
    assert "fails on the undefended data-free-conversion too" in (weak.reason or "")


def test_an_attack_that_does_nothing_at_all_leaves_a_target_without_a_rank() -> None:
    twin = defense(UNDEFENDED, [attack("idle", 105.0)], {"idle": 105.0})
    target = defense("mine", [attack("idle", 105.0)], {"idle": 105.0})
    (_, judgement) = judged([twin, target], UNDEFENDED)
    worst = worst_case([judgement])
    assert worst.attacks == ()
    assert worst.why is not None
    assert worst.why.status == "void"


def test_a_failure_of_its_own_is_not_covered_by_void() -> None:
    twin = defense(UNDEFENDED, [attack("strong", 105.0)], NULLS)
    target = defense("mine", [attack("strong", None, status="failed", reason="it raised")], NULLS)
    (_, judgement) = judged([twin, target], UNDEFENDED)
    assert judgement.attacks[0].leakage is not None
    assert (judgement.attacks[0].leakage.status, judgement.attacks[0].leakage.reason) == ("failed", "it raised")


def test_a_coding_without_a_gradient_is_flagged_and_an_ann_is_not() -> None:
    spiking = defense("a", [attack("strong", 55.0)], NULLS, gradients=None)
    plain = defense("b", [attack("strong", 55.0)], NULLS, time_steps=None, gradients=health())
    assert [d.flags for d in judged([spiking, plain], UNDEFENDED)] == [("no-input-gradient",), ()]


def test_a_masked_gradient_is_void_without_a_twin_too() -> None:
    nulls = {"direct-inversion": 105.0}
    (only,) = judged(
        [defense("mine", [attack("direct-inversion", 105.0)], nulls, gradients=health("masked-gradients"))], UNDEFENDED
    )
    assert only.attacks[0].leakage is not None
    assert only.attacks[0].leakage.status == "void"


def test_answers_alone_beating_a_void_white_box_attack_is_flagged() -> None:
    names = ["direct-inversion", "black-box-inversion"]
    attacks = [attack(names[0], 105.0), attack(names[1], 40.0, access="scores")]
    (only,) = judged(
        [defense("mine", attacks, dict.fromkeys(names, 105.0), gradients=health("masked-gradients"))], UNDEFENDED
    )
    assert "black-box-beats-white-box" in only.flags


def test_a_success_is_never_void() -> None:
    twin = defense(UNDEFENDED, [attack("strong", 105.0)], NULLS)
    target = defense("mine", [attack("strong", 55.0)], NULLS, gradients=health("masked-gradients"))
    (_, judgement) = judged([twin, target], UNDEFENDED)
    assert judgement.attacks[0].leakage is not None
    assert judgement.attacks[0].leakage.value == pytest.approx(0.5)


def test_an_attack_along_a_masked_gradient_is_void_and_the_target_is_flagged() -> None:
    nulls = {"direct-inversion": 105.0, "adaptive-inversion": 105.0}
    twin = defense(UNDEFENDED, [attack("direct-inversion", 25.0), attack("adaptive-inversion", 25.0)], nulls)
    attacks = [attack("direct-inversion", 105.0), attack("adaptive-inversion", 45.0)]
    target = defense("masked", attacks, nulls, gradients=health("masked-gradients"))
    _, judgement = judged([twin, target], UNDEFENDED)
    direct, adaptive = (a.leakage for a in judgement.attacks)
    assert direct is not None
    assert direct.status == "void"
    assert "masked" in (direct.reason or "")
    assert adaptive is not None
    assert adaptive.value == pytest.approx(0.6)
    assert judgement.flags == ("masked-gradients",)


def test_a_failed_attack_has_an_unknown_leakage_and_one_that_does_not_apply_has_none() -> None:
    attacks = [
        attack("strong", None, status="failed", reason="it raised"),
        attack("weak", None, status="not-applicable", reason="not for this"),
    ]
    (result,) = judged([defense("mine", attacks, NULLS)], UNDEFENDED)
    failed, foreign = (a.leakage for a in result.attacks)
    assert failed is not None
    assert (failed.value, failed.status, failed.reason) == (None, "failed", "it raised")
    assert foreign is None


def test_black_box_beating_white_box_and_transfer_beating_direct_are_flagged() -> None:
    names = ["direct-inversion", "adaptive-reconversion (clip)", "black-box-inversion"]
    nulls = dict.fromkeys(names, 105.0)

    def flags(*values: float) -> tuple[str, ...]:
        access = ["weights", "weights", "scores"]
        attacks = [attack(n, v, access=a) for n, v, a in zip(names, values, access, strict=True)]
        (result,) = judged([defense(UNDEFENDED, attacks, nulls)], UNDEFENDED)
        return result.flags

    assert flags(50.0, 90.0, 90.0) == ()
    assert flags(90.0, 50.0, 90.0) == ("transfer-beats-direct",)
    assert flags(90.0, 90.0, 50.0) == ("black-box-beats-white-box",)


def test_reconstructions_that_are_recognised_more_often_than_real_images_are_flagged() -> None:
    often = Measurement(
        name="recognised, relative to real images", value=1.2, n=300, unit="ratio",
        direction="higher means more leakage",
    )  # fmt: skip
    item = attack("strong", 50.0)
    item = item.model_copy(update={"measurements": (*item.measurements, often)})
    (result,) = judged([defense(UNDEFENDED, [item], NULLS)], UNDEFENDED)
    assert result.attacks[0].flags == ("prototypes-beat-reality",)


def test_the_worst_attack_is_chosen_on_the_other_seeds() -> None:
    """Chosen on the same seeds, noise alone would look like leakage."""
    leaks = {"a": (0.9, 0.1, 0.1), "b": (0.2, 0.3, 0.4)}
    seeds = []
    for place in range(3):
        attacks = [attack(name, 105.0 - 100 * values[place]) for name, values in leaks.items()]
        seeds.append(judged([defense(UNDEFENDED, attacks, {"a": 105.0, "b": 105.0})], UNDEFENDED)[0])
    worst = worst_case(seeds)
    assert worst.attacks == ("b", "a", "a")
    assert [m.value for m in worst.leakages] == pytest.approx([0.2, 0.1, 0.1])


def test_an_attack_without_a_value_under_one_seed_is_out_of_the_choice_and_named() -> None:
    full = judged([defense(UNDEFENDED, [attack("strong", 55.0), attack("weak", 95.0)], NULLS)], UNDEFENDED)[0]
    lost = [attack("strong", None, status="failed", reason="it raised"), attack("weak", 95.0)]
    part = judged([defense(UNDEFENDED, lost, NULLS)], UNDEFENDED)[0]
    worst = worst_case([full, part])
    assert worst.attacks == ("weak", "weak")
    assert worst.lost == ("strong",)
    assert worst.at_least, "one failure of the strongest attack must not make a target look better"


@pytest.mark.parametrize("status", ["failed", "timed-out"])
def test_a_target_on_which_the_strongest_attack_never_ends_is_a_lower_bound(status: Status) -> None:
    weak = attack("weak", 55.0)
    lost = attack("strong", None, status=status, reason="too slow")
    worst = worst_case(judged([defense("a", [weak, lost], NULLS)], UNDEFENDED))
    assert (worst.attacks, worst.lost, worst.at_least) == (("weak",), ("strong",), True)


@pytest.mark.parametrize("status", ["failed", "timed-out", "undefined"])
def test_one_seed_without_a_result_of_the_strongest_attack_makes_a_lower_bound(status: Status) -> None:
    found = [attack("weak", 55.0), attack("strong", 90.0)]
    lost = [attack("weak", 55.0), attack("strong", None, status=status, reason="too slow")]
    seeds = [judged([defense("a", attacks, NULLS)], UNDEFENDED)[0] for attacks in (found, found, lost)]
    worst = worst_case(seeds)
    assert worst.at_least
    assert worst.doubts == ("strong came to no result under every seed",)


def test_a_target_that_another_attack_breaks_under_every_seed_is_a_lower_bound() -> None:
    """A defense knows its seed: it could give every seed another weakness, and no attack would leak on the others."""
    leaks = {"a": (0.9, 0.1, 0.11), "b": (0.1, 0.91, 0.12), "c": (0.11, 0.12, 0.92)}
    seeds = []
    for place in range(3):
        attacks = [attack(name, 105.0 - 100 * values[place]) for name, values in leaks.items()]
        seeds.append(judged([defense("a", attacks, dict.fromkeys(leaks, 105.0))], UNDEFENDED)[0])
    worst = worst_case(seeds)
    assert sum(m.value or 0 for m in worst.leakages) / 3 < 0.2
    assert worst.doubts == ("another attack is the worst under every seed: the worst of each leak 91.0 % on average",)


@pytest.mark.parametrize(
    ("name", "values", "doubted"),
    [
        ("adaptive-reconversion (clip)", {}, True),
        ("adaptive-reconversion (clip)", {"flags": ("no-input-gradient",)}, False),
        ("adaptive-reconversion (clip)", {"time_steps": None, "gradients": None}, False),
        ("of no suite", {}, False),
    ],
)
def test_an_attack_of_a_suite_that_a_spiking_target_was_spared_is_a_doubt(
    name: str, values: dict[str, Any], doubted: bool
) -> None:
    spared = attack(name, None, status="not-applicable", reason="so it says")
    target = judged([defense("a", [attack("weak", 55.0), spared], NULLS)], UNDEFENDED)[0].model_copy(update=values)
    assert worst_case([target]).at_least == doubted


def test_an_interval_as_wide_as_half_the_scale_gives_no_rank() -> None:
    spread = Number(0.737, "fraction", 0.0, 1.0)
    assert rank_groups({"spread": spread, "fine": Number(0.41, "fraction", 0.4, 0.42)}) == {
        "spread": "unranked",
        "fine": "1",
    }


def test_an_interval_over_seeds_stays_within_what_is_measured_and_around_its_value() -> None:
    def over(name: str, unit: str, *values: float) -> Number:
        found = [
            Number.of(Measurement(name=name, value=v, n=10, unit=unit, direction="higher is better")) for v in values
        ]
        return over_seeds(found, range(len(values)))

    gap = over("train/test gap", "fraction", -0.05, -0.01, 0.02)
    assert gap.low is not None
    assert gap.value is not None
    assert -1 < gap.low < gap.value
    assert over("energy", "ratio", 0.1, 2.0, 9.0).low == 0
    assert over("accuracy", "fraction", 0.1, 0.9, 1.0).high == 1
    assert over("AUC", "fraction", 0.5, 0.5, 0.5).low is None, "nothing was seen of how it spreads"


def test_ranks_are_groups_that_intervals_separate() -> None:
    def number(low: float | None, high: float | None) -> Number:
        return Number(0.5, "fraction", low, high)

    ranks = rank_groups(
        {"a": number(0.1, 0.2), "b": number(0.15, 0.3), "c": number(0.25, 0.4), "d": number(0.5, 0.6),
         "e": number(None, None)}
    )  # fmt: skip
    assert ranks == {"a": "1", "b": "1", "c": "2", "d": "4", "e": "unranked"}
