"""Membership numbers find what is there, and nothing where there is nothing."""

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from audit.metrics.membership import auc, epsilon_lower_bound, train_test_gap, true_positive_rate
from audit.records import Measurement

FEW_VALUES = st.lists(st.integers(0, 6), min_size=10, max_size=25)


def together(inside: object, outside: object) -> tuple[np.ndarray, np.ndarray]:
    """Scores and membership, members last, so that no function can go by position alone."""
    inside, outside = np.asarray(inside, dtype=float), np.asarray(outside, dtype=float)
    return np.concatenate([outside, inside]), np.arange(len(inside) + len(outside)) >= len(outside)


def value(measured: Measurement) -> float:
    assert measured.value is not None, measured.reason
    return measured.value


def limits(measured: Measurement) -> tuple[float, float]:
    assert measured.low is not None
    assert measured.high is not None
    return measured.low, measured.high


def naive_auc(inside: list[int], outside: list[int]) -> float:
    won = 0.0
    for member in inside:
        for other in outside:
            won += 1.0 if member > other else 0.5 if member == other else 0.0
    return won / (len(inside) * len(outside))


def naive_delong(inside: list[int], outside: list[int]) -> float:
    """Variance of the area, from the placement of each image on its own."""
    of_members = [naive_auc([member], outside) for member in inside]
    of_others = [naive_auc(inside, [other]) for other in outside]
    return float(np.var(of_members, ddof=1) / len(inside) + np.var(of_others, ddof=1) / len(outside))


@given(FEW_VALUES, FEW_VALUES)
def test_the_auc_counts_every_pair_and_half_of_the_ties(inside: list[int], outside: list[int]) -> None:
    scores, members = together(inside, outside)
    measured = auc("auc", scores, members)
    if len(set(scores)) == 1:
        assert (measured.status, measured.value) == ("undefined", None)
        return
    assert value(measured) == pytest.approx(naive_auc(inside, outside), abs=1e-12)
    assert value(measured) == pytest.approx(roc_auc_score(members, scores), abs=1e-12)
    low, high = limits(measured)
    assert 0 <= low <= value(measured) <= high <= 1
    assert low < high


@given(FEW_VALUES, FEW_VALUES)
def test_the_interval_of_the_auc_is_delongs_on_the_logit_scale(inside: list[int], outside: list[int]) -> None:
    area, variance = naive_auc(inside, outside), naive_delong(inside, outside)
    if not (0 < area < 1 and variance > 1e-12):
        return
    measured = auc("auc", *together(inside, outside))
    half = 1.959964 * math.sqrt(variance) / (area * (1 - area))
    centre = math.log(area / (1 - area))
    expected = tuple(1 / (1 + math.exp(-end)) for end in (centre - half, centre + half))
    assert limits(measured) == pytest.approx(expected, abs=1e-6)
    assert measured.interval == "DeLong 95 %"


def test_the_auc_of_the_negated_score_is_the_rest() -> None:
    scores, members = together(*np.random.default_rng(0).normal(0.7, size=(2, 40)))
    one, other = auc("auc", scores, members), auc("auc", -scores, members)
    assert value(other) == pytest.approx(1 - value(one))
    assert limits(other) == pytest.approx(tuple(1 - end for end in limits(one)[::-1]))


@pytest.mark.parametrize(("shift", "sizes"), [(0.0, (60, 90)), (0.3, (200, 200)), (1.0, (60, 60)), (2.5, (50, 50))])
def test_the_interval_of_the_auc_covers_the_truth_95_times_in_100(shift: float, sizes: tuple[int, int]) -> None:
    draw = np.random.default_rng(1)
    truth = stats.norm.cdf(shift / math.sqrt(2))
    runs = [auc("auc", *together(draw.normal(shift, 1, sizes[0]), draw.normal(0, 1, sizes[1]))) for _ in range(800)]
    covered = np.mean([low <= truth <= high for low, high in map(limits, runs)])
    assert 0.93 <= covered <= 0.975


def test_the_interval_of_the_auc_covers_the_truth_with_few_images_and_ties() -> None:
    draw, levels = np.random.default_rng(2), np.arange(5)
    chances = np.array([[0.1, 0.1, 0.2, 0.3, 0.3], [0.3, 0.3, 0.2, 0.1, 0.1]])
    truth = sum(chances[0][i] * (chances[1][:i].sum() + chances[1][i] / 2) for i in levels)
    runs = [auc("auc", *together(*(draw.choice(levels, 10, p=p) for p in chances))) for _ in range(800)]
    covered = np.mean([low <= truth <= high for low, high in map(limits, runs)])
    assert covered >= 0.93


def test_a_perfect_separation_is_not_reported_without_doubt() -> None:
    measured = auc("auc", *together(np.arange(20) + 100, np.arange(20)))
    low, high = limits(measured)
    assert (measured.value, high, measured.interval) == (1.0, 1.0, "Newcombe 95 %")
    assert 0.75 < low < 0.95
    mirrored = limits(auc("auc", *together(np.arange(20), np.arange(20) + 100)))
    assert mirrored == pytest.approx((0.0, 1 - low))


def test_more_images_make_a_perfect_separation_more_certain() -> None:
    lows = [limits(auc("auc", *together(np.arange(n) + 1000, np.arange(n))))[0] for n in (10, 40, 160)]
    assert lows == sorted(lows)


def best_of_all_thresholds(scores: np.ndarray, members: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """What `epsilon_lower_bound` must not be: the best threshold, judged by the images that chose it.

    ``low`` and ``high``: the limits for 0, 1, ... n images of n.
    """
    inside, outside = np.sort(scores[members]), np.sort(scores[~members])
    k, j = (np.searchsorted(side, np.unique(scores), side="right") for side in (inside, outside))
    n = len(outside)
    with np.errstate(divide="ignore"):
        shown = np.log([low[j] / high[k], low[k] / high[j], low[n - k] / high[n - j], low[n - j] / high[n - k]])
    return float(shown.max())


@pytest.fixture(scope="module")
def null_runs() -> list[tuple[np.ndarray, np.ndarray]]:
    """Members and non-members of one distribution, with ties in every second run."""
    draw = np.random.default_rng(3)
    runs = [together(*draw.normal(size=(2, 2000))) for _ in range(200)]
    return [(scores.round(2) if i % 2 else scores, members) for i, (scores, members) in enumerate(runs)]


def at_most(share: float, runs: int) -> float:
    """What a true share stays below in all but one of a thousand repetitions."""
    return float(stats.binom.ppf(0.999, runs, share)) / runs


def test_a_null_attack_has_a_positive_bound_in_no_more_than_5_of_100_runs(
    null_runs: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    bounds = np.array([value(epsilon_lower_bound("eps", *run, delta=0.0, seed=i)) for i, run in enumerate(null_runs)])
    assert bounds.min() == 0
    found = bounds > 0
    assert np.mean(found) <= at_most(0.05, len(found))


def test_the_best_of_all_thresholds_would_find_leakage_more_often_than_that(
    null_runs: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    n = 2000
    low = np.r_[0.0, stats.beta.ppf(0.025, np.arange(1, n + 1), np.arange(n, 0, -1))]
    found = [best_of_all_thresholds(*run, low, 1 - low[::-1]) > 0 for run in null_runs]
    assert np.mean(found) > at_most(0.05, len(found))


def test_the_interval_of_a_null_attack_excludes_one_half_about_5_times_in_100() -> None:
    draw = np.random.default_rng(3)
    runs = [limits(auc("auc", *together(*draw.normal(size=(2, 100))))) for _ in range(1000)]
    assert 0.03 <= np.mean([not low <= 0.5 <= high for low, high in runs]) <= at_most(0.05, 1000)


def responses(draw: np.random.Generator, epsilon: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Randomised response: no mechanism of this epsilon tells more."""
    keep = math.exp(epsilon) / (1 + math.exp(epsilon))
    return together(draw.random(n) < keep, draw.random(n) >= keep)


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_the_bound_stays_below_the_epsilon_of_randomised_response(epsilon: float) -> None:
    draw = np.random.default_rng(4)
    runs = [responses(draw, epsilon, 150) for _ in range(300)]
    bounds = [value(epsilon_lower_bound("eps", *run, delta=0.0, seed=i)) for i, run in enumerate(runs)]
    assert np.mean(np.array(bounds) > epsilon) <= at_most(0.05, len(bounds))


def test_with_many_images_the_bound_comes_near_to_the_epsilon_of_randomised_response() -> None:
    bound = value(epsilon_lower_bound("eps", *responses(np.random.default_rng(5), 1.0, 20000), delta=0.0))
    assert 0.9 < bound < 1.0


@pytest.mark.parametrize("delta", [0.0, 0.1])
def test_the_bound_of_a_perfect_separation_by_hand(delta: float) -> None:
    # 50 of 50 against 0 of 50 in the judging half, each limit at 97.5 %
    all_of_50 = 0.025 ** (1 / 50)
    measured = epsilon_lower_bound("eps", *together(np.arange(100) + 500, np.arange(100)), delta=delta)
    assert value(measured) == pytest.approx(math.log((all_of_50 - delta) / (1 - all_of_50)), rel=1e-9)
    assert f"at most {value(measured):.2g} can be shown" in (measured.reason or "")
    assert (measured.n, measured.unit, measured.low) == (200, "nats", None)


def test_a_higher_confidence_gives_a_lower_bound() -> None:
    run = together(np.arange(100) + 500, np.arange(100))
    bounds = [value(epsilon_lower_bound("eps", *run, confidence=c)) for c in (0.8, 0.95, 0.999)]
    assert bounds == sorted(bounds, reverse=True)


@pytest.mark.parametrize("tail", [-10.0, 10.0])
@pytest.mark.parametrize("members_stand_out", [True, False])
def test_the_bound_finds_a_tail_on_either_side_and_of_either_group(tail: float, members_stand_out: bool) -> None:
    draw = np.random.default_rng(6)
    plain, odd = draw.normal(size=300), draw.normal(size=300)
    odd[:90] += tail
    run = together(odd, plain) if members_stand_out else together(plain, odd)
    assert value(epsilon_lower_bound("eps", *run)) > 1


def test_the_seed_alone_decides_the_split() -> None:
    run = together(*np.random.default_rng(7).normal([[2.0], [0.0]], size=(2, 100)))
    bounds = [value(epsilon_lower_bound("eps", *run, seed=seed)) for seed in (0, 0, 1)]
    assert bounds[0] == bounds[1] != bounds[2]


def test_images_too_few_for_any_bound_are_insufficient() -> None:
    for n, status in ((11, "ok"), (10, "insufficient")):  # 6 of 6 against 0 of 6 can be told apart, 5 cannot
        assert epsilon_lower_bound("eps", *together(np.arange(n) + 50, np.arange(n)), delta=0.0).status == status
    measured = epsilon_lower_bound("eps", *together(np.arange(10) + 50, np.arange(10)))
    assert measured.value is None
    assert "5 members and 5 non-members" in (measured.reason or "")


@given(FEW_VALUES, st.lists(st.integers(0, 6), min_size=10, max_size=60), st.sampled_from([0.1, 0.29, 0.3]))
def test_no_more_non_members_are_called_members_than_the_rate_allows(
    inside: list[int], outside: list[int], rate: float
) -> None:
    measured = true_positive_rate("tpr", *together(inside, outside), rate)
    if measured.status != "ok":
        assert len({*inside, *outside}) == 1
        return
    allowed = [t for t in range(-1, 7) if sum(score > t for score in outside) <= rate * len(outside) + 1e-9]
    assert value(measured) == sum(score > min(allowed) for score in inside) / len(inside)


def test_a_true_positive_rate_by_hand() -> None:
    outside = np.arange(1000.0)  # one of them, 999, may lie above the threshold 998
    measured = true_positive_rate("tpr", *together([998, 998.5, 999, 5000], outside), 0.001)
    assert (measured.value, measured.n, measured.interval) == (0.75, 4, "Wilson 95 %")
    assert "the same 1000 non-members" in (measured.reason or "")


def test_a_rate_that_is_no_binary_fraction_allows_its_whole_number_of_non_members() -> None:
    assert 0.29 * 100 < 29
    measured = true_positive_rate("tpr", *together([70.5], np.arange(100)), 0.29)
    assert measured.value == 1


def test_tied_scores_on_top_are_not_called_members() -> None:
    outside = np.r_[np.zeros(98), 1.0, 1.0]
    assert true_positive_rate("tpr", *together(np.ones(50), outside), 0.01).value == 0
    assert true_positive_rate("tpr", *together(np.ones(50), outside), 0.02).value == 1


@pytest.mark.parametrize(
    ("n", "rate", "status"), [(999, 0.001, "insufficient"), (1000, 0.001, "ok"), (100, 0.01, "ok")]
)
def test_a_rate_needs_as_many_non_members_as_one_false_positive_takes(n: int, rate: float, status: str) -> None:
    measured = true_positive_rate("tpr", *together(np.arange(20), np.arange(n)), rate)
    assert measured.status == status
    if status == "insufficient":
        assert measured.value is None
        assert measured.reason == "999 non-members; a false positive rate of 0.001 needs at least 1000"


def test_the_false_positive_rate_on_others_is_below_what_the_reason_says() -> None:
    draw, below = np.random.default_rng(8), []
    for _ in range(300):
        # Members from the non-members' distribution: their rate is the threshold's false positive rate on others.
        measured = true_positive_rate("tpr", *together(draw.random(20000), draw.random(200)), 0.01)
        worst = re.search(r"below ([\d.e-]+) with 95 %", measured.reason or "")
        assert worst is not None
        below.append(value(measured) <= float(worst[1]))
    assert 0.91 <= np.mean(below) <= 0.985


def test_the_gap_of_newcombes_example() -> None:
    # 56 of 70 against 48 of 80: Newcombe (1998), Table II, method 10
    measured = train_test_gap("gap", np.r_[np.arange(70) < 56, np.arange(80) < 48], np.arange(150) < 70)
    assert value(measured) == pytest.approx(0.2)
    assert limits(measured) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_the_gap_covers_the_truth_95_times_in_100() -> None:
    draw, members = np.random.default_rng(9), np.arange(250) < 100
    truth = np.where(members, 0.99, 0.8)
    runs = [limits(train_test_gap("gap", draw.random(250) < truth, members)) for _ in range(600)]
    assert 0.93 <= np.mean([low <= 0.19 <= high for low, high in runs]) <= 0.98


def test_a_gap_needs_members_and_non_members() -> None:
    assert train_test_gap("gap", [True, False], [True, True]).status == "insufficient"
    assert train_test_gap("gap", [], []).status == "insufficient"


Measure = Callable[[str, np.ndarray, np.ndarray], Measurement]


def rate_at_10_percent(name: str, scores: np.ndarray, members: np.ndarray) -> Measurement:
    return true_positive_rate(name, scores, members, 0.1)


ALL: list[Measure] = [auc, rate_at_10_percent, epsilon_lower_bound]


@pytest.mark.parametrize("measure", ALL)
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_neither_dropped_nor_ranked(measure: Measure, odd: float) -> None:
    scores, members = together(np.r_[np.arange(29), odd], np.arange(30))
    measured = measure("x", scores, members)
    assert (measured.status, measured.value) == ("undefined", None)
    assert "1 of 60 images" in (measured.reason or "")


@pytest.mark.parametrize("measure", ALL)
def test_a_mute_signal_is_not_a_private_target(measure: Measure) -> None:
    measured = measure("x", *together(np.ones(30), np.ones(30)))
    assert (measured.status, measured.value) == ("undefined", None)


@pytest.mark.parametrize("measure", ALL)
@pytest.mark.parametrize(("inside", "outside"), [(0, 30), (30, 0), (0, 0)])
def test_one_group_alone_is_insufficient(measure: Measure, inside: int, outside: int) -> None:
    measured = measure("x", *together(np.arange(inside), np.arange(outside)))
    assert (measured.status, measured.value) == ("insufficient", None)
    assert f"{inside} members and {outside} non-members" in (measured.reason or "")


def test_an_area_of_nine_members_is_insufficient() -> None:
    assert auc("auc", *together(np.arange(9), np.arange(50))).status == "insufficient"
    assert auc("auc", *together(np.arange(10), np.arange(50))).status == "ok"


@pytest.mark.parametrize("measure", [*ALL, train_test_gap])
def test_what_is_no_membership_is_refused(measure: Measure) -> None:
    correct = np.arange(30) % 2 == 0
    for members in (np.arange(30) % 2, np.ones((30, 1), dtype=bool), np.ones(29, dtype=bool)):
        with pytest.raises(ValueError, match=r"members"):
            measure("x", correct, members)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, math.nan])
def test_a_rate_outside_0_1_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="false_positive_rate"):
        true_positive_rate("tpr", *together([1.0], [0.0]), rate)


@pytest.mark.parametrize("settings", [{"delta": 1.0}, {"delta": -0.1}, {"confidence": 1.0}, {"confidence": 95.0}])
def test_a_delta_or_a_confidence_out_of_range_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"delta|confidence"):
        epsilon_lower_bound("eps", *together([1.0], [0.0]), **settings)  # type: ignore[arg-type]


def test_leakage_points_upwards_in_all_of_them() -> None:
    run = together(np.arange(30), np.arange(30) - 5)
    measured = [measure("x", *run) for measure in ALL]
    measured.append(train_test_gap("x", run[1], run[1]))
    assert {each.direction for each in measured} == {"higher means more leakage"}
