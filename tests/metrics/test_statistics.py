"""Intervals say how sure a number is, and say so truthfully."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.metrics.statistics import proportion, t_interval, wilson
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
