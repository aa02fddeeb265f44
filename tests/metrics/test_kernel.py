"""The kernel distance is the published one, without its draws, and a class counts once."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.image.kid import KernelInceptionDistance

from audit.metrics import kernel
from audit.metrics.kernel import class_conditional_distance, kernel_distance

RNG = np.random.default_rng(11)
REAL = RNG.standard_normal((40, 6))
FAKE = 0.7 * RNG.standard_normal((25, 6)) + 0.5
LABELS = np.arange(40) % 4
FAKE_LABELS = np.arange(25) % 4
CLASSES = ("ant", "bee", "cat", "dog")


def mmd_by_loops(real: np.ndarray, fake: np.ndarray) -> float:
    """Gretton et al. 2012, Lemma 6, pair by pair."""

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return (float(sum(a * b for a, b in zip(x, y, strict=True))) / len(x) + 1) ** 3

    def within(rows: np.ndarray) -> float:
        return float(np.mean([k(x, y) for (i, x), (j, y) in product(enumerate(rows), repeat=2) if i != j]))

    return within(real) + within(fake) - 2 * float(np.mean([k(x, y) for x, y in product(real, fake)]))


def value(real: np.ndarray, fake: np.ndarray) -> float:
    measured = kernel_distance("KD", real, fake)
    assert measured.value is not None, measured.reason
    return measured.value


def by_class(
    real: np.ndarray = REAL,
    labels: np.ndarray = LABELS,
    fake: np.ndarray = FAKE,
    fake_labels: np.ndarray = FAKE_LABELS,
) -> float:
    measured = class_conditional_distance("CKD", real, labels, fake, fake_labels, CLASSES)
    assert measured.value is not None, measured.reason
    return measured.value


def test_it_is_the_mean_over_pairs_of_different_images() -> None:
    assert value(REAL, FAKE) == pytest.approx(mmd_by_loops(REAL, FAKE), rel=1e-10)


def test_it_is_torchmetrics_kid_with_one_subset_of_everything() -> None:
    metric = KernelInceptionDistance(feature=torch.nn.Identity(), subsets=1, subset_size=25).set_dtype(torch.float64)
    metric.update(torch.tensor(REAL[:25]), real=True)
    metric.update(torch.tensor(FAKE), real=False)
    assert value(REAL[:25], FAKE) == pytest.approx(float(metric.compute()[0]), rel=1e-10)


def test_in_one_dimension_it_is_the_polynomial_worked_out_by_hand() -> None:
    # k(1, 2) = 27; k(0, 1) = 1; across: k(1, 0) = 1, k(1, 1) = 8, k(2, 0) = 1, k(2, 1) = 27
    assert value(np.array([[1.0], [2.0]]), np.array([[0.0], [1.0]])) == pytest.approx(27 + 1 - 2 * 37 / 4)


def test_a_kernel_matrix_in_pieces_gives_the_same_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = value(REAL, FAKE)
    monkeypatch.setattr(kernel, "ROWS", 7)
    assert value(REAL, FAKE) == pytest.approx(whole, rel=1e-12)


def test_a_set_against_itself_is_below_0_by_what_its_pairs_with_themselves_are_above_the_others() -> None:
    kernel_matrix = (REAL @ REAL.T / 6 + 1) ** 3
    itself, others = np.diag(kernel_matrix).mean(), kernel_matrix[~np.eye(40, dtype=bool)].mean()
    assert value(REAL, REAL) == pytest.approx(-2 / 40 * (itself - others))
    many = np.random.default_rng(1).standard_normal((1500, 6))
    assert abs(value(many, many)) < 0.02 < 0.5 < value(REAL, FAKE + 1)


def test_two_draws_from_one_distribution_are_at_distance_0_on_average_at_any_size() -> None:
    rng = np.random.default_rng(2)
    for n, m in ((2, 2), (5, 30), (30, 30)):
        draws = [value(rng.standard_normal((n, 4)), rng.standard_normal((m, 4))) for _ in range(600)]
        assert abs(np.mean(draws)) < 4 * np.std(draws) / np.sqrt(len(draws))
        assert min(draws) < 0


@given(st.randoms(use_true_random=False))
def test_it_is_symmetric_and_does_not_depend_on_the_order_of_images(random) -> None:
    real, fake = (rows[random.sample(range(len(rows)), len(rows))] for rows in (REAL, FAKE))
    assert value(real, fake) == pytest.approx(value(REAL, FAKE), rel=1e-10)
    assert value(fake, real) == pytest.approx(value(REAL, FAKE), rel=1e-10)


def test_a_distance_carries_its_direction_and_its_count_and_takes_tensors() -> None:
    measured = kernel_distance("KD", torch.tensor(REAL), torch.tensor(FAKE).float())
    assert measured.value == pytest.approx(value(REAL, FAKE), rel=1e-5)
    assert (measured.direction, measured.unit, measured.n) == ("lower means more leakage", "distance", 25)
    assert (measured.low, measured.high, measured.interval, measured.reason) == (None, None, None, None)


def test_the_distance_within_classes_is_the_mean_of_the_distances_of_the_classes() -> None:
    terms = [mmd_by_loops(REAL[c == LABELS], FAKE[c == FAKE_LABELS]) for c in range(4)]
    assert by_class() == pytest.approx(np.mean(terms), rel=1e-10)


@given(st.randoms(use_true_random=False), st.permutations(range(4)))
def test_neither_the_order_of_images_nor_that_of_classes_matters_within_classes(random, names: list[int]) -> None:
    i, j = (random.sample(range(len(rows)), len(rows)) for rows in (REAL, FAKE))
    renamed = np.array(names)
    assert by_class(REAL[i], renamed[LABELS[i]], FAKE[j], renamed[FAKE_LABELS[j]]) == pytest.approx(by_class())


def test_good_images_under_wrong_labels_are_far_only_within_classes() -> None:
    centres = 5 * np.eye(4, 6)
    real, fake = 0.1 * REAL + centres[LABELS], 0.1 * FAKE + centres[FAKE_LABELS]
    wrong = (FAKE_LABELS + 1) % 4
    assert value(real, fake) < 1
    assert by_class(real, LABELS, fake, wrong) > 10 * max(1.0, abs(by_class(real, LABELS, fake, FAKE_LABELS)))


def test_more_images_of_one_class_do_not_shift_the_expected_distance_within_classes() -> None:
    rng = np.random.default_rng(3)
    shift = np.array([0.0, 2.0, 0.0])[:, None]  # class 1 is badly reconstructed, the others are real

    def expected(per_class: list[int]) -> tuple[float, float]:
        labels, fake_labels = np.repeat([0, 1, 2], 10), np.repeat([0, 1, 2], per_class)
        draws = [
            by_class(
                rng.standard_normal((30, 4)),
                labels,
                rng.standard_normal((len(fake_labels), 4)) + shift[fake_labels],
                fake_labels,
            )
            for _ in range(800)
        ]
        return float(np.mean(draws)), float(np.std(draws) / np.sqrt(len(draws)))

    (balanced, error), (skewed, other) = expected([5, 5, 5]), expected([5, 40, 5])
    assert balanced > 5
    assert abs(skewed - balanced) < 4 * np.hypot(error, other) < 0.2 * balanced


def test_classes_without_reconstructions_do_not_count_and_are_mentioned() -> None:
    some = FAKE_LABELS < 2
    measured = class_conditional_distance("CKD", REAL, LABELS, FAKE[some], FAKE_LABELS[some], CLASSES)
    terms = [mmd_by_loops(REAL[c == LABELS], FAKE[c == FAKE_LABELS]) for c in range(2)]
    assert measured.value == pytest.approx(np.mean(terms))
    assert (measured.reason, measured.n) == ("2 of 4 classes have reconstructions", int(some.sum()))


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_images_are_insufficient_and_never_0(n: int) -> None:
    for real, fake, which in ((REAL, FAKE[:n], f"40 real and {n} rec"), (REAL[:n], FAKE, f"{n} real and 25 rec")):
        measured = kernel_distance("KD", real, fake)
        assert (measured.value, measured.status, measured.n) == (None, "insufficient", n)
        assert measured.reason == f"{which}onstructed images; needs at least 2 of each"


def test_a_class_of_one_image_on_either_side_is_insufficient_and_named() -> None:
    kept, fake_kept = (np.flatnonzero((labels != 1) | (np.arange(len(labels)) < 4)) for labels in (LABELS, FAKE_LABELS))
    few_fakes = class_conditional_distance("CKD", REAL, LABELS, FAKE[fake_kept], FAKE_LABELS[fake_kept], CLASSES)
    few_reals = class_conditional_distance("CKD", REAL[kept], LABELS[kept], FAKE, FAKE_LABELS, CLASSES)
    assert {few_fakes.status, few_reals.status} == {"insufficient"}
    assert {few_fakes.value, few_reals.value} == {None}
    needs = "reconstructed images; needs at least 2 of each"
    assert few_fakes.reason == f"class 'bee' has 10 real and 1 {needs}"
    assert few_reals.reason == f"class 'bee' has 1 real and 6 {needs}"


def test_no_reconstructions_are_insufficient_within_classes() -> None:
    measured = class_conditional_distance("CKD", REAL, LABELS, FAKE[:0], FAKE_LABELS[:0], CLASSES)
    assert (measured.value, measured.status, measured.reason) == (None, "insufficient", "0 reconstructed images")


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_features_that_are_not_finite_are_undefined_and_counted(broken: float) -> None:
    fake = FAKE.copy()
    fake[[3, 8], 0] = broken
    for measured in (
        kernel_distance("KD", REAL, fake),
        class_conditional_distance("CKD", REAL, LABELS, fake, FAKE_LABELS, CLASSES),
    ):
        assert (measured.value, measured.status) == (None, "undefined")
        assert measured.reason == "features that are not finite: 0 real and 2 reconstructed images"


def test_features_too_large_for_their_kernel_are_undefined() -> None:
    for scale in (1e120, 1e200):
        measured = kernel_distance("KD", scale * REAL, scale * FAKE)
        assert (measured.value, measured.status) == (None, "undefined")
        assert "too large" in (measured.reason or "")


@pytest.mark.parametrize("constant", [0.0, 0.7, 1e200])
def test_features_that_do_not_vary_have_no_distance_instead_of_a_perfect_one(constant: float) -> None:
    still, fake = np.full((40, 3), constant), np.full((25, 3), constant) + 1e-9
    with np.errstate(all="raise"):
        both = (
            kernel_distance("KD", still, fake),
            class_conditional_distance("CKD", still, LABELS, fake, FAKE_LABELS, CLASSES),
        )
    for measured in both:
        assert (measured.value, measured.status) == (None, "undefined")
        assert "do not vary" in (measured.reason or "")


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (REAL[0], FAKE, "real_features must have the shape"),
        (REAL, FAKE[None], "fake_features must have the shape"),
        (REAL, FAKE[:, :4], "real_features have 6 columns, fake_features 4"),
        (REAL[:, :0], FAKE[:, :0], "shape"),
    ],
)
def test_features_that_do_not_fit_are_refused(real: np.ndarray, fake: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kernel_distance("KD", real, fake)
    with pytest.raises(ValueError, match=message):
        class_conditional_distance("CKD", real, LABELS, fake, FAKE_LABELS, CLASSES)


@pytest.mark.parametrize(
    ("labels", "fake_labels", "message"),
    [
        (LABELS[:3], FAKE_LABELS, "features and real_labels differ in length: 40 and 3"),
        (LABELS, FAKE_LABELS[1:], "features and fake_labels differ in length: 25 and 24"),
        (LABELS, FAKE_LABELS + 1, "fake_labels: label 4 has no name among 4 classes"),
        (LABELS - 1, FAKE_LABELS, "real_labels must be class indices from 0"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: np.ndarray, fake_labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_conditional_distance("CKD", REAL, labels, FAKE, fake_labels, CLASSES)
