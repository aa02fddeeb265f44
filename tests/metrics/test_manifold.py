"""Density and coverage are the published ones; the nearest private image is searched within its class."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from audit.metrics import manifold
from audit.metrics.manifold import coverage, density, nearest_distances, nearest_neighbour
from audit.records import Measurement

RNG = np.random.default_rng(5)
REAL = RNG.standard_normal((40, 4))
FAKE = 0.6 * RNG.standard_normal((23, 4)) + 0.4
PRIVATE = RNG.standard_normal((60, 4))
LABELS, FAKE_LABELS, PRIVATE_LABELS = (np.arange(n) % 3 for n in (40, 23, 60))


def balls_by_loops(real: np.ndarray, fake: np.ndarray, k: int) -> np.ndarray:
    """bool [N, M]: Naeem et al. 2020, Sec. 3: whether fake j lies in the open ball of real i; radii by scikit-learn."""
    radii = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(real).kneighbors(real)[0][:, k]
    return np.array(
        [[math.dist(x, y) < radius for y in fake] for x, radius in zip(real, radii, strict=True)], dtype=bool
    )


def number(measured: Measurement) -> float:
    assert measured.value is not None, measured.reason
    return measured.value


def nearest(
    fake: np.ndarray = FAKE,
    fake_labels: np.ndarray = FAKE_LABELS,
    private: np.ndarray = PRIVATE,
    private_labels: np.ndarray = PRIVATE_LABELS,
    real: np.ndarray = REAL,
    labels: np.ndarray = LABELS,
) -> Measurement:
    return nearest_neighbour("NN", fake, fake_labels, private, private_labels, real, labels)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_density_and_coverage_count_the_balls_of_the_paper(k: int) -> None:
    inside = balls_by_loops(REAL, FAKE, k)
    assert number(density("density", REAL, FAKE, k)) == pytest.approx(inside.sum() / (k * len(FAKE)))
    assert number(coverage("coverage", REAL, FAKE, k)) == pytest.approx(inside.any(axis=1).mean())


def test_a_set_covers_itself_and_is_as_dense_as_itself() -> None:
    assert number(density("density", REAL, REAL)) == 1
    assert number(coverage("coverage", REAL, REAL)) == 1


def test_an_image_on_the_border_of_a_ball_is_outside() -> None:
    real, fake = np.array([[0.0], [1.0], [3.0]]), np.array([[-1.0]])  # the ball around 0 ends at -1
    assert number(density("density", real, fake, k=1)) == number(coverage("coverage", real, fake, k=1)) == 0
    assert number(density("density", real, 0.9 * fake, k=1)) == 1
    assert number(coverage("coverage", real, 0.9 * fake, k=1)) == pytest.approx(1 / 3)


def test_images_far_from_real_ones_are_neither_dense_nor_cover_anything() -> None:
    assert number(density("density", REAL, FAKE + 100)) == 0
    assert number(coverage("coverage", REAL, FAKE + 100)) == 0


def test_one_typical_image_repeated_is_dense_and_covers_little() -> None:
    typical = np.zeros((23, 4))
    assert number(density("density", REAL, typical)) > 1
    assert number(coverage("coverage", REAL, typical)) < 0.5


def test_other_real_images_have_the_density_and_the_coverage_of_the_closed_form() -> None:
    rng = np.random.default_rng(8)
    n, m, k = 30, 20, 5
    pairs = [(rng.standard_normal((n, 3)), rng.standard_normal((m, 3))) for _ in range(400)]
    expected = 1 - math.prod((n - i) / (m + n - i) for i in range(1, k + 1))
    assert np.mean([number(density("density", *pair, k)) for pair in pairs]) == pytest.approx(1, abs=0.03)
    assert np.mean([number(coverage("coverage", *pair, k)) for pair in pairs]) == pytest.approx(expected, abs=0.015)


@given(st.randoms(use_true_random=False), st.integers(1, 8))
def test_density_and_coverage_do_not_depend_on_the_order_of_images_nor_on_the_unit(random, k: int) -> None:
    real, fake = (8 * rows[random.sample(range(len(rows)), len(rows))] for rows in (REAL, FAKE))
    for metric in (density, coverage):
        assert metric("m", real, fake, k) == metric("m", REAL, FAKE, k)


def test_distances_in_pieces_are_the_same_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    def everything() -> list[Measurement]:
        return [density("d", REAL, FAKE), coverage("c", REAL, FAKE), nearest()]

    whole = everything()
    monkeypatch.setattr(manifold, "ROWS", 4)
    assert everything() == whole


@pytest.mark.parametrize("metric", [density, coverage])
def test_density_and_coverage_say_what_they_lack(metric) -> None:
    for real, fake, why in (
        (REAL[:5], FAKE, "5 real and 23 reconstructed images; needs more than 5 real and 1 reconstructed"),
        (REAL, FAKE[:0], "40 real and 0 reconstructed images; needs more than 5 real and 1 reconstructed"),
    ):
        measured = metric("m", real, fake)
        assert (measured.value, measured.status, measured.reason) == (None, "insufficient", why)
    still = metric("m", np.full((40, 3), 0.1), np.full((23, 3), 0.1))
    assert (still.value, still.status) == (None, "undefined")
    assert "do not vary" in (still.reason or "")
    broken = metric("m", REAL, np.where(FAKE > 1, np.nan, FAKE))
    assert (broken.value, broken.status) == (None, "undefined")
    assert "not finite: 0 real and" in (broken.reason or "")
    assert metric("m", REAL, FAKE).direction == "higher means more leakage"
    assert metric("m", torch.tensor(REAL), torch.tensor(FAKE)) == metric("m", REAL, FAKE)


@pytest.mark.parametrize("metric", [density, coverage])
def test_density_and_coverage_refuse_what_does_not_fit(metric) -> None:
    with pytest.raises(ValueError, match="k must be at least 1"):
        metric("m", REAL, FAKE, 0)
    with pytest.raises(ValueError, match="4 columns, fake_features 2"):
        metric("m", REAL, FAKE[:, :2])
    with pytest.raises(ValueError, match="fake_features must have the shape"):
        metric("m", REAL, FAKE[0])


def test_the_nearest_private_image_is_the_one_of_scikit_learn_within_the_class() -> None:
    found = nearest_distances(FAKE, FAKE_LABELS, PRIVATE, PRIVATE_LABELS)
    for c in range(3):
        index = NearestNeighbors(n_neighbors=1, algorithm="ball_tree").fit(PRIVATE[c == PRIVATE_LABELS])
        assert found[c == FAKE_LABELS] == pytest.approx(index.kneighbors(FAKE[c == FAKE_LABELS])[0][:, 0])


def test_the_ratio_is_a_mean_over_images_within_classes_then_over_classes() -> None:
    def by_loops(rows: np.ndarray, labels: np.ndarray) -> float:
        return float(
            np.mean(
                [
                    np.mean([min(math.dist(x, p) for p in PRIVATE[c == PRIVATE_LABELS]) for x in rows[labels == c]])
                    for c in range(3)
                ]
            )
        )

    measured = nearest()
    assert measured.value == pytest.approx(by_loops(FAKE, FAKE_LABELS) / by_loops(REAL, LABELS))
    assert (measured.unit, measured.direction, measured.n) == ("times real-to-real", "lower means more leakage", 23)


def test_held_out_images_are_at_ratio_1_and_copies_at_0() -> None:
    assert number(nearest(REAL, LABELS)) == pytest.approx(1)
    assert number(nearest(PRIVATE, PRIVATE_LABELS)) == 0


def test_copies_of_another_class_are_no_copies() -> None:
    assert number(nearest(PRIVATE, (PRIVATE_LABELS + 1) % 3)) > 0.5


@given(st.randoms(use_true_random=False), st.permutations(range(3)), st.floats(0.01, 100))
def test_neither_order_nor_names_nor_the_unit_of_the_features_matter(random, names: list[int], unit: float) -> None:
    i, j, p = (random.sample(range(len(rows)), len(rows)) for rows in (REAL, FAKE, PRIVATE))
    to = np.array(names)
    changed = nearest(
        unit * FAKE[j],
        to[FAKE_LABELS[j]],
        unit * PRIVATE[p],
        to[PRIVATE_LABELS[p]],
        unit * REAL[i],
        to[LABELS[i]],
    )
    assert changed.value == pytest.approx(number(nearest()))


@pytest.mark.parametrize("c", [0, 1, 2])
def test_every_image_of_one_class_twice_shifts_nothing(c: int) -> None:
    twice, real_twice, private_twice = (
        np.concatenate([np.arange(len(labels)), np.flatnonzero(labels == c)])
        for labels in (FAKE_LABELS, LABELS, PRIVATE_LABELS)
    )
    changed = nearest(
        FAKE[twice],
        FAKE_LABELS[twice],
        PRIVATE[private_twice],
        PRIVATE_LABELS[private_twice],
        REAL[real_twice],
        LABELS[real_twice],
    )
    assert changed.value == pytest.approx(number(nearest()), rel=1e-12)


def test_held_out_images_of_classes_without_reconstructions_do_not_count() -> None:
    two = FAKE_LABELS < 2
    moved = np.where((LABELS == 2)[:, None], REAL + 100, REAL)
    assert nearest(FAKE[two], FAKE_LABELS[two], real=moved) == nearest(FAKE[two], FAKE_LABELS[two])


def test_a_class_without_images_to_compare_with_is_named() -> None:
    without, real_without = PRIVATE_LABELS != 1, LABELS != 2
    measured = nearest(private=PRIVATE[without], private_labels=PRIVATE_LABELS[without])
    assert (measured.value, measured.status, measured.reason) == (None, "insufficient", "no private image of class 1")
    measured = nearest(real=REAL[real_without], labels=LABELS[real_without])
    assert (measured.status, measured.reason) == ("insufficient", "no held-out real image of class 2")
    assert nearest(FAKE[:0], FAKE_LABELS[:0]).reason == "0 reconstructed images"
    with pytest.raises(ValueError, match="no private image of class 1"):
        nearest_distances(FAKE, FAKE_LABELS, PRIVATE[without], PRIVATE_LABELS[without])


def test_a_network_that_is_dead_or_overflows_gives_no_ratio() -> None:
    round_off = 1 + 2e-16 * RNG.integers(0, 2, (60, 4))
    for constant in (0.0, 0.1 * round_off):
        rows = constant * np.ones((60, 4))
        dead = nearest(rows[:23], FAKE_LABELS, rows, PRIVATE_LABELS, rows[-40:], LABELS)
        assert (dead.value, dead.status) == (None, "undefined")
        assert "at distance 0" in (dead.reason or "")
    copies = nearest(real=PRIVATE, labels=PRIVATE_LABELS)
    assert (copies.value, copies.status) == (None, "undefined")
    broken = nearest(np.where(FAKE > 1, np.inf, FAKE))
    assert (broken.value, broken.status) == (None, "undefined")
    assert "reconstructed and 0 private and 0 real images" in (broken.reason or "")
    for large in (nearest(1e200 * FAKE), nearest(1e200 * FAKE, private=1e200 * PRIVATE, real=1e200 * REAL)):
        assert (large.value, large.status) == (None, "undefined")
        assert "too large" in (large.reason or "")


def test_raw_distances_of_features_that_are_not_finite_are_not_numbers() -> None:
    fake = FAKE.copy()
    fake[4, 1] = np.nan
    assert np.flatnonzero(np.isnan(nearest_distances(fake, FAKE_LABELS, PRIVATE, PRIVATE_LABELS))).tolist() == [4]


def test_features_and_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="features and private_labels differ in length: 60 and 59"):
        nearest(private_labels=PRIVATE_LABELS[1:])
    with pytest.raises(ValueError, match="fake_features have 4 columns, real_features 3"):
        nearest(real=REAL[:, :3])
    with pytest.raises(ValueError, match="labels must be integers"):
        nearest_distances(FAKE, FAKE_LABELS / 2, PRIVATE, PRIVATE_LABELS)
