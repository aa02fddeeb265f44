"""Intervals say how sure a number is, and say so truthfully."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from audit.metrics import statistics
from audit.metrics.statistics import hierarchical_bootstrap, mean, nested_mean, proportion, t_interval, wilson
from tests.oracles.wilson import wilson_from_the_quadratic

COUNTS = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
CONFIDENCES = st.sampled_from([0.5, 0.9, 0.95, 0.99])


@given(COUNTS, CONFIDENCES)
def test_wilson_solves_the_quadratic_of_the_paper(counts: tuple[int, int], confidence: float) -> None:
    assert wilson(*counts, confidence) == pytest.approx(wilson_from_the_quadratic(*counts, confidence), abs=1e-9)


@given(COUNTS, CONFIDENCES)
def test_wilson_contains_the_observed_fraction_and_stays_in_0_1(counts: tuple[int, int], confidence: float) -> None:
    low, high = wilson(*counts, confidence)
    assert 0 <= low < high <= 1
    assert low - 1e-12 <= counts[0] / counts[1] <= high + 1e-12


@given(COUNTS)
def test_wilson_of_the_failures_is_the_mirror_of_wilson_of_the_successes(counts: tuple[int, int]) -> None:
    successes, n = counts
    low, high = wilson(successes, n)
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_wilson_does_not_collapse_where_every_trial_succeeds() -> None:
    low, high = wilson(50, 50)
    assert low == pytest.approx(50 / (50 + 1.959964**2), abs=1e-6)
    assert high == 1


@pytest.mark.parametrize("truth", [0.1, 0.5, 0.8, 0.97])
def test_wilson_covers_the_truth_about_95_times_in_100(truth: float) -> None:
    n, repeats = 300, 4000
    draws, counts = np.unique(np.random.default_rng(0).binomial(n, truth, size=repeats), return_counts=True)
    intervals = [wilson(int(successes), n) for successes in draws]
    covered = sum(int(count) for (low, high), count in zip(intervals, counts, strict=True) if low <= truth <= high)
    assert 0.935 <= covered / repeats <= 0.97


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 5), (1.5, 3), (True, 1)])
def test_wilson_refuses_counts_that_are_none(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=r"trials|whole number"):
        wilson(successes, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, math.nan, 95.0])
def test_a_confidence_outside_0_1_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, confidence)
    with pytest.raises(ValueError, match="confidence"):
        t_interval([1.0, 2.0], confidence)


def test_t_interval_of_three_seeds_by_hand() -> None:
    # mean 2, deviation 1, t(0.975; 2) = 4.302653 from the table
    half = 4.302653 / math.sqrt(3)
    assert t_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - half, 2 + half), abs=1e-6)


def test_t_interval_of_equal_values_has_no_width() -> None:
    assert t_interval([0.7, 0.7, 0.7]) == (pytest.approx(0.7), pytest.approx(0.7))


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [1.0, math.inf], [[1.0, 2.0]]])
def test_t_interval_refuses_what_has_no_spread(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"values|shape"):
        t_interval(values)


def test_t_interval_covers_the_mean_of_three_normal_values_95_times_in_100() -> None:
    samples = np.random.default_rng(1).standard_normal((2000, 3))
    covered = np.mean([low <= 0 <= high for low, high in map(t_interval, samples)])
    assert 0.935 <= covered <= 0.965


def test_a_proportion_carries_its_interval_and_its_count() -> None:
    measured = proportion("accuracy", 9, 10, "higher is better")
    assert (measured.value, measured.n, measured.status, measured.interval) == (0.9, 10, "ok", "Wilson 95 %")
    assert (measured.low, measured.high) == wilson(9, 10)


def test_a_proportion_of_no_images_has_no_value() -> None:
    measured = proportion("accuracy", 0, 0, "higher is better")
    assert (measured.value, measured.low, measured.status, measured.reason) == (None, None, "insufficient", "0 images")


def drawn_runs(rng: np.random.Generator, seeds: int, classes: int, images: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Values [N] of a random-effects model with mean 0: a seed, a class within it and an image each add their own."""
    effects = (
        rng.standard_normal((seeds, 1, 1)),
        0.7 * rng.standard_normal((seeds, classes, 1)),
        rng.standard_normal((seeds, classes, images)),
    )
    shape = (seeds, classes, images)
    levels = [
        np.broadcast_to(np.arange(n).reshape(at), shape).ravel()
        for n, at in ((seeds, (-1, 1, 1)), (classes, (1, -1, 1)))
    ]
    return sum(effects, np.zeros(shape)).ravel(), levels


def test_the_hierarchical_interval_covers_the_mean_of_a_random_effects_model_and_a_naive_one_does_not() -> None:
    rng = np.random.default_rng(0)
    covered = {"hierarchical": 0, "naive": 0}
    for run in range(300):
        values, levels = drawn_runs(rng, seeds=12, classes=10, images=8)
        for kind, units in (("hierarchical", levels), ("naive", [])):
            low, high = hierarchical_bootstrap(values, units, resamples=200, seed=run)
            covered[kind] += low <= 0 <= high
    assert 0.88 <= covered["hierarchical"] / 300 <= 0.99
    assert covered["naive"] / 300 < 0.5


def test_one_seed_and_one_class_make_it_the_bootstrap_over_images() -> None:
    values = np.random.default_rng(1).standard_normal(200)
    low, high = hierarchical_bootstrap(values, [np.zeros(200, int), np.full(200, 7)], resamples=20000)
    reference = stats.bootstrap((values,), np.mean, n_resamples=20000, method="percentile", rng=2)
    expected = reference.confidence_interval
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_the_interval_is_that_of_a_loop_over_resamples() -> None:
    rng = np.random.default_rng(4)
    seeds, classes = rng.integers(0, 4, 60), rng.integers(0, 3, 60)
    values = rng.standard_normal(60) + seeds + 0.3 * classes
    tree = {s: {c: values[(seeds == s) & (classes == c)] for c in set(classes[seeds == s])} for s in set(seeds)}

    def resampled() -> float:
        drawn = [tree[s] for s in rng.choice(list(tree), len(tree))]
        return float(
            np.mean(
                [np.mean([rng.choice(of[c], len(of[c])).mean() for c in rng.choice(list(of), len(of))]) for of in drawn]
            )
        )

    expected = np.quantile([resampled() for _ in range(4000)], [0.05, 0.95])
    found = hierarchical_bootstrap(values, [seeds, classes], resamples=20000, confidence=0.9)
    assert found == pytest.approx(tuple(expected), abs=0.08)


def test_a_seed_alone_is_kept_and_its_classes_are_drawn() -> None:
    values, classes = np.array([0.0, 0, 0, 1, 1, 1]), np.array([0, 0, 0, 1, 1, 1])
    # two classes, each without spread: 0, 1/2 or 1, with probability 1/4, 1/2 and 1/4
    assert hierarchical_bootstrap(values, [np.zeros(6, int), classes]) == (0, 1)
    assert hierarchical_bootstrap(values, [np.zeros(6, int), classes], confidence=0.4) == (0.5, 0.5)
    assert hierarchical_bootstrap(values, [np.arange(6) * 0, np.arange(6) * 0, classes], confidence=0.4) == (0.5, 0.5)


SAMPLES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.floats(-10, 10, allow_subnormal=False)), min_size=1, max_size=30
)


@given(SAMPLES, st.randoms(use_true_random=False))
def test_neither_the_mean_nor_the_interval_depends_on_the_order_of_the_images(rows: list, random) -> None:
    results = []
    for order in (rows, random.sample(rows, len(rows))):
        seeds, classes, values = (np.array(column) for column in zip(*order, strict=True))
        results.append((nested_mean(values, [seeds, classes]), hierarchical_bootstrap(values, [seeds, classes], 50)))
    assert results[0] == results[1]


@given(SAMPLES)
def test_the_mean_is_that_of_the_means_and_the_interval_lies_within_the_values(rows: list) -> None:
    seeds, classes, values = (np.array(column) for column in zip(*rows, strict=True))
    by_seed = [
        np.mean([values[(seeds == s) & (classes == c)].mean() for c in set(classes[seeds == s])]) for s in set(seeds)
    ]
    assert nested_mean(values, [seeds, classes]) == pytest.approx(np.mean(by_seed), abs=1e-9)
    low, high = hierarchical_bootstrap(values, [seeds, classes], resamples=50)
    assert values.min() - 1e-9 <= low <= high <= values.max() + 1e-9


def test_every_image_of_one_class_twice_does_not_shift_the_mean() -> None:
    values, classes = np.array([1.0, 2, 3, 10, 11]), np.array([0, 0, 0, 1, 1])
    twice = np.array([0, 1, 2, 3, 4, 3, 4])
    assert nested_mean(values, [classes]) == nested_mean(values[twice], [classes[twice]]) == (2 + 10.5) / 2
    assert nested_mean(values) == pytest.approx(values.mean())


def test_resamples_in_parts_are_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    values, levels = drawn_runs(np.random.default_rng(3), seeds=3, classes=4, images=5)
    whole = hierarchical_bootstrap(values, levels, resamples=100)
    monkeypatch.setattr(statistics, "DRAWN", 7 * 60)
    parts = hierarchical_bootstrap(values, levels, resamples=100)
    assert parts == pytest.approx(whole, abs=0.4)
    assert parts == hierarchical_bootstrap(values, levels, resamples=100)
    assert parts != hierarchical_bootstrap(values, levels, resamples=100, seed=1)


def test_a_mean_carries_its_interval_and_its_count() -> None:
    values, levels = drawn_runs(np.random.default_rng(6), seeds=3, classes=4, images=5)
    measured = mean("SSIM", torch.tensor(values), levels, "SSIM", "higher means more leakage", seed=3, reason="why")
    assert measured.value == pytest.approx(values.mean())
    assert (measured.low, measured.high) == hierarchical_bootstrap(values, levels, seed=3)
    assert (measured.n, measured.interval) == (60, "hierarchical bootstrap 95 %")
    assert (measured.unit, measured.direction, measured.reason) == ("SSIM", "higher means more leakage", "why")


def test_a_mean_that_cannot_be_made_says_why() -> None:
    nothing = mean("m", [], [[]], "distance", "neutral")
    assert (nothing.value, nothing.status, nothing.reason) == (None, "insufficient", "0 images")
    broken = mean("m", [1.0, math.nan, math.inf], [[0, 0, 1]], "distance", "neutral")
    assert (broken.value, broken.status, broken.n) == (None, "undefined", 3)
    assert broken.reason == "2 of 3 images have a value that is not finite"
    alone = mean("m", [2.5], [[4]], "distance", "neutral")
    assert (alone.value, alone.low, alone.high, alone.interval, alone.status) == (2.5, None, None, None, "ok")


@pytest.mark.parametrize(
    ("values", "levels", "options", "message"),
    [
        ([[1.0, 2.0]], [], {}, r"values must have the shape \[N\]"),
        ([], [], {}, "no mean of 0 values"),
        ([1.0, math.nan], [], {}, "finite"),
        ([1.0, 2.0], [[0, 1], [0]], {}, r"values and levels\[1\] differ in length: 2 and 1"),
        ([1.0, 2.0], [[0.5, 1.0]], {}, r"levels\[0\] must be integers"),
        ([1.0, 2.0], [[0, 1]], {"resamples": 0}, "resamples"),
        ([1.0, 2.0], [[0, 1]], {"confidence": 95.0}, "confidence"),
    ],
)
def test_the_bootstrap_refuses_what_does_not_fit(values: list, levels: list, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hierarchical_bootstrap(values, levels, **options)
