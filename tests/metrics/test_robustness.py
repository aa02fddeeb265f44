"""What an evasion costs: paired losses, spikes, noise-to-signal ratios, and the size of a model."""

import numpy as np
import pytest

from audit.metrics.robustness import (
    accuracy_loss,
    activity,
    activity_change,
    model_size,
    noise_to_signal,
    span_of,
    variation,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def right(share: float, n: int = 200) -> np.ndarray:
    return np.arange(n) < round(share * n)


def test_a_loss_is_what_was_right_and_is_no_longer() -> None:
    found = accuracy_loss("accuracy loss", right(0.9), right(0.6))
    assert found.value == pytest.approx(0.3)
    assert found.low is not None
    assert found.high is not None
    assert 0.2 < found.low < 0.3 < found.high < 0.4
    assert (found.n, found.unit, found.direction) == (200, "fraction", "lower is better")


def test_an_attack_that_does_nothing_loses_nothing_and_its_interval_is_not_empty() -> None:
    found = accuracy_loss("", right(0.9), right(0.9))
    assert found.value == 0
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0 < found.high


@pytest.mark.parametrize(("clean", "attacked"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (1.0, 1.0), (0.5, 0.49)])
@pytest.mark.parametrize("n", [1, 2, 7, 100])
def test_a_value_lies_in_its_interval_and_the_interval_in_its_range(clean: float, attacked: float, n: int) -> None:
    found = accuracy_loss("", right(clean, n), right(attacked, n))
    assert None not in (found.low, found.value, found.high)
    assert -1 <= found.low <= found.value <= found.high <= 1  # type: ignore[operator]


def test_the_paired_interval_covers_about_95_times_in_100_and_pairing_makes_it_short() -> None:
    source = rng()
    covered, shorter = 0, 0
    for _ in range(400):
        clean = source.random(100) < 0.9
        attacked = clean & (source.random(100) < 0.8)
        found = accuracy_loss("", clean, attacked)
        shuffled = accuracy_loss("", clean, source.permutation(attacked))
        covered += found.low <= 0.18 <= found.high  # type: ignore[operator]
        shorter += found.high - found.low < shuffled.high - shuffled.low  # type: ignore[operator]
    assert covered / 400 > 0.92
    assert shorter / 400 > 0.95


def test_images_of_two_lengths_are_refused_and_none_are_insufficient() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        accuracy_loss("", right(0.5, 3), right(0.5, 4))
    assert accuracy_loss("", [], []).status == "insufficient"


def test_a_variation_is_the_largest_loss_minus_the_smallest() -> None:
    clean = np.stack([right(0.9)] * 3)
    attacked = np.stack([right(0.8), right(0.5), right(0.7)])
    found = variation("variation", clean, attacked)
    assert found.value == pytest.approx(0.3)
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low < 0.3 < found.high
    same = variation("", clean, np.stack([right(0.7)] * 3))
    assert (same.value, same.low) == (0, 0)
    assert variation("", clean[:1], attacked[:1]).status == "insufficient"
    with pytest.raises(ValueError, match=r"must both be \[P, N\]"):
        variation("", clean, attacked[:2])


def test_the_interval_of_a_variation_of_noise_begins_at_0() -> None:
    source = rng(1)
    clean = np.ones((4, 60), dtype=bool)
    begins = [variation("", clean, source.random((4, 60)) < 0.7).low == 0 for _ in range(100)]
    assert np.mean(begins) > 0.95


def test_a_span_is_between_what_its_intervals_leave_possible() -> None:
    assert span_of([1.0, 3.0], [0.5, 2.5], [1.5, 3.5]) == pytest.approx((2.0, 1.0, 3.0))
    assert span_of([1.0, 1.2], [0.0, 0.0], [2.0, 2.0])[1] == 0


def test_activity_counts_every_layer_the_same_whatever_its_size() -> None:
    spikes = {"relu1": np.array([2.0, 4.0]), "relu2": np.array([0.0, 2.0])}
    found = activity("spikes", spikes)
    assert found.value == 2.0
    assert (found.n, found.unit) == (2, "spikes")
    more = {name: rows + 0.5 for name, rows in spikes.items()}
    change = activity_change("change", spikes, more)
    assert (change.value, change.low, change.high) == (0.5, 0.5, 0.5)


def test_the_ratio_of_equal_answers_is_0_and_of_doubled_ones_1() -> None:
    signal = rng().random(30)
    for root in (False, True):
        assert noise_to_signal("", 0 * signal, signal, root).value == 0
        assert noise_to_signal("", signal, signal, root).value == pytest.approx(1)
    assert noise_to_signal("", 4 * signal, signal, root=True).value == pytest.approx(2)


def test_the_ratio_does_not_depend_on_the_unit_or_on_the_order_of_images() -> None:
    noise, signal = rng(1).random(30), rng(2).random(30) + 1
    found = noise_to_signal("", noise, signal)
    assert noise_to_signal("", 9 * noise, 9 * signal).value == pytest.approx(found.value)
    assert noise_to_signal("", noise[::-1], signal[::-1]).value == pytest.approx(found.value)
    assert found.value == pytest.approx(noise.sum() / signal.sum())
    assert found.low is not None
    assert found.high is not None
    assert found.low < noise.sum() / signal.sum() < found.high


def test_the_mean_over_layers_is_that_of_their_ratios() -> None:
    noise, signal = rng(1).random((3, 40)), rng(2).random((3, 40)) + 1
    each = [noise_to_signal("", n, s).value for n, s in zip(noise, signal, strict=True)]
    assert noise_to_signal("", noise, signal).value == pytest.approx(np.mean(each))


def test_a_silent_layer_has_no_ratio_and_says_so() -> None:
    found = noise_to_signal("", np.ones(5), np.zeros(5))
    assert (found.status, found.value, found.reason) == ("undefined", None, "a silent layer")
    two = noise_to_signal("", np.ones((2, 5)), np.stack([np.zeros(5), np.ones(5)]))
    assert two.reason == "1 of 2 layers answer nothing to the clean images"
    assert noise_to_signal("", [], []).status == "insufficient"
    assert noise_to_signal("", [np.inf], [1.0]).status == "undefined"


def test_a_layer_that_answers_few_images_only_keeps_an_interval_around_its_value() -> None:
    noise, signal = np.zeros(20), np.zeros(20)
    signal[0], noise[0] = 1.0, 0.25
    found = noise_to_signal("", noise, signal)
    assert (found.low, found.value, found.high) == (0.25, 0.25, 0.25)


def test_a_size_is_weights_times_bits_and_32_where_nobody_said() -> None:
    assert model_size(1000).value == 32_000
    assert model_size(1000, 4).value == 4000
    assert model_size(1000, 1).unit == "bits"
