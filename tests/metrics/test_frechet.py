"""The Fréchet distance is the published one, and refuses to be computed from too little."""

import numpy as np
import pytest
import torch

from audit.metrics.frechet import frechet_distance
from tests.oracles.frechet import frechet_from_features, frechet_from_moments, rows_with_moments

RNG = np.random.default_rng(7)
SQUARE = RNG.standard_normal((2, 5, 5))
COVARIANCES = SQUARE @ SQUARE.transpose(0, 2, 1) + 0.1 * np.eye(5)
MEANS = RNG.standard_normal((2, 5))
REAL = rows_with_moments(MEANS[0], COVARIANCES[0], n=80, seed=1)
FAKE = rows_with_moments(MEANS[1], COVARIANCES[1], n=60, seed=2)


def value(real: np.ndarray, fake: np.ndarray) -> float:
    measured = frechet_distance("FD", real, fake)
    assert measured.value is not None, measured.reason
    return measured.value


def test_it_is_the_distance_between_gaussians_of_known_moments() -> None:
    expected = frechet_from_moments(MEANS[0], COVARIANCES[0], MEANS[1], COVARIANCES[1])
    assert value(REAL, FAKE) == pytest.approx(expected, rel=1e-9)


def test_it_is_the_matrix_square_root_formula_on_features_like_those_of_a_relu_layer() -> None:
    rng = np.random.default_rng(3)
    mix = rng.standard_normal((2, 16, 16))
    real, fake = (np.maximum(rng.standard_normal((200, 16)) @ m + 0.5, 0) for m in mix)
    assert value(real, fake) == pytest.approx(frechet_from_features(real, fake), rel=1e-6)


@pytest.mark.parametrize(("means", "deviations"), [((0, 3), (1, 1)), ((2, 2), (1, 4)), ((-1, 5), (0.5, 2))])
def test_in_one_dimension_it_is_the_closed_form(means: tuple[float, float], deviations: tuple[float, float]) -> None:
    sets = [
        rows_with_moments(np.array([mean]), np.array([[deviation**2]]), n=50, seed=seed)
        for seed, (mean, deviation) in enumerate(zip(means, deviations, strict=True))
    ]
    closed_form = (means[0] - means[1]) ** 2 + (deviations[0] - deviations[1]) ** 2
    assert value(*sets) == pytest.approx(closed_form, rel=1e-9)


def test_a_set_is_at_no_distance_from_itself() -> None:
    assert 0 <= value(REAL, REAL) < 1e-9


def test_a_set_with_features_that_are_never_active_is_at_no_distance_from_itself() -> None:
    dead = np.concatenate([np.abs(REAL), np.zeros((len(REAL), 4))], axis=1)
    assert 0 <= value(dead, dead) < 1e-6
    assert value(dead, dead + 1) == pytest.approx(9, rel=1e-6)


def test_it_is_symmetric_and_does_not_depend_on_the_order_of_images() -> None:
    rng = np.random.default_rng(4)
    assert value(FAKE, REAL) == pytest.approx(value(REAL, FAKE), rel=1e-9)
    assert value(rng.permutation(REAL), rng.permutation(FAKE)) == pytest.approx(value(REAL, FAKE), rel=1e-9)


def test_it_does_not_change_when_both_sets_move_and_grows_by_the_square_when_one_does() -> None:
    shift = np.full(5, 1e6)
    assert value(REAL + shift, FAKE + shift) == pytest.approx(value(REAL, FAKE), rel=1e-6)
    assert value(REAL, REAL + shift) == pytest.approx(5e12, rel=1e-9)


def test_it_grows_with_the_square_of_the_unit() -> None:
    assert value(10 * REAL, 10 * FAKE) == pytest.approx(100 * value(REAL, FAKE), rel=1e-9)


def test_float32_tensors_are_measured_in_float64() -> None:
    real, fake = torch.tensor(REAL).float(), torch.tensor(FAKE).float()
    measured = frechet_distance("FD", real, fake)
    assert measured.value == pytest.approx(
        frechet_from_features(real.double().numpy(), fake.double().numpy()), rel=1e-9
    )
    assert measured.direction == "lower means more leakage"
    assert (measured.low, measured.high, measured.interval, measured.n) == (None, None, None, 60)


@pytest.mark.parametrize("n", [0, 1, 2, 60, 64])
def test_too_few_images_are_insufficient_with_the_counts_and_never_0(n: int) -> None:
    many, few = np.random.default_rng(5).standard_normal((400, 64)), np.ones((n, 64))
    for measured, which in (
        (frechet_distance("FD", many, few), "reconstructed"),
        (frechet_distance("FD", few, many), "real"),
    ):
        assert (measured.value, measured.status, measured.n) == (None, "insufficient", n)
        assert measured.reason == f"{n} images for 64 features; needs more than 64, better 320 ({which} set)"


@pytest.mark.parametrize(("n", "biased"), [(6, True), (24, True), (25, False)])
def test_a_value_from_fewer_than_five_images_per_feature_says_that_it_is_biased(n: int, biased: bool) -> None:
    measured = frechet_distance("FD", REAL, FAKE[:n])
    assert measured.status == "ok"
    assert (measured.reason or "").startswith(f"biased upwards: {n} images for 5 features") is biased


def test_the_bias_that_the_reason_speaks_of_is_upwards() -> None:
    rng = np.random.default_rng(6)
    few = np.mean([value(rng.standard_normal((40, 8)), rng.standard_normal((12, 8))) for _ in range(10)])
    many = np.mean([value(rng.standard_normal((40, 8)), rng.standard_normal((400, 8))) for _ in range(10)])
    assert few > 1.5 * many > 0


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_features_that_are_not_finite_are_undefined_and_counted(broken: float) -> None:
    fake = FAKE.copy()
    fake[[3, 8], 0] = broken
    measured = frechet_distance("FD", REAL, fake)
    assert (measured.value, measured.status) == (None, "undefined")
    assert measured.reason == "features that are not finite: 0 real and 2 reconstructed images"


def test_features_too_large_to_be_squared_are_undefined() -> None:
    measured = frechet_distance("FD", REAL, 1e200 * FAKE)
    assert (measured.value, measured.status) == (None, "undefined")
    assert "too large" in (measured.reason or "")


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (REAL[0], FAKE, "real_features must have the shape"),
        (REAL, FAKE[None], "fake_features must have the shape"),
        (REAL, FAKE[:, :4], "5 columns, fake_features 4"),
        (REAL[:, :0], FAKE[:, :0], "shape"),
    ],
)
def test_features_that_do_not_fit_are_refused(real: np.ndarray, fake: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frechet_distance("FD", real, fake)


def test_features_that_do_not_vary_have_no_distance_instead_of_a_perfect_one() -> None:
    still = np.full((50, 3), 0.7)
    measured = frechet_distance("FD", still, still + 1e-9)
    assert (measured.value, measured.status) == (None, "undefined")
    assert "do not vary" in (measured.reason or "")
