"""Scores or labels are enough to move towards a class, within the budget, and the notes say how far."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks.black_box_inversion import BlackBoxInversion, roughness_slope
from attacks.label_only_inversion import LabelOnlyInversion
from audit.contracts import Access, AttackContext, Oracle, Reconstructions, Task
from audit.monitor import SilentMonitor
from audit.registry import ATTACKS
from tests.networks.teachers import CPU, generator, tiny_target

TASK = Task("toy", ("a", "b", "c"), (1, 8, 8))
UNIT = replace(TASK, input_range=(0.0, 1.0))
SCORES = BlackBoxInversion(images_per_class=3, queries_per_image=600)
LABELS = LabelOnlyInversion(images_per_class=3, queries_per_image=600)
BOTH = [SCORES, LABELS]


def templates() -> Tensor:
    """What the linear target looks for, [3, 64]: a column on the left, one on the right, a row in the middle."""
    images = torch.zeros(3, 8, 8)
    images[0, :, :3], images[1, :, 5:], images[2, 3:5, :] = 1.0, 1.0, 1.0
    flat = images.flatten(1)
    return flat - flat.mean(1, keepdim=True)


def linear(x: Tensor, scale: float = 0.2) -> Tensor:
    return scale * x.flatten(1) @ templates().T


def noisy(x: Tensor, source: torch.Generator, size: float = 0.5) -> Tensor:
    logits = linear(x)
    return logits + size * torch.randn(logits.shape, generator=source)


def context(seed: int = 0, task: Task = TASK) -> AttackContext:
    return AttackContext(task, seed, CPU, SilentMonitor())


def oracle_for(attack: Any, logits: Callable[[Tensor], Tensor] = linear) -> Oracle:
    """Scores or classes, as the attack is entitled to."""
    return Oracle(logits if attack.access is Access.SCORES else lambda x: logits(x).argmax(1))


def correlation(found: Reconstructions) -> Tensor:
    """Of each image with each class's template, [N, 3]."""
    flat = found.images.flatten(1)
    pairs = torch.nn.functional.cosine_similarity(
        (flat - flat.mean(1, keepdim=True))[:, None], templates()[None], dim=2
    )
    return pairs


def own(values: Tensor, found: Reconstructions) -> Tensor:
    return values.gather(1, found.labels[:, None])[:, 0]


@pytest.mark.parametrize("attack", BOTH)
def test_both_are_registered_under_the_names_of_their_files(attack: Any) -> None:
    name = type(attack).__module__.removeprefix("attacks.").replace("_", "-")
    assert ATTACKS.get(name).factory is type(attack)


@pytest.mark.parametrize("attack", BOTH)
@pytest.mark.parametrize("task", [TASK, UNIT])
def test_images_look_like_what_the_target_looks_for(attack: Any, task: Task) -> None:
    found = attack.reconstruct(oracle_for(attack), context(task=task))
    likeness = correlation(found)
    assert (likeness.argmax(1) == found.labels).all()
    assert float(own(likeness, found).mean()) > 0.5
    assert float(own(likeness, found).min()) > 0.3
    assert found.labels.bincount().tolist() == [3, 3, 3]
    assert found.images.dtype == torch.float32
    low, high = task.input_range
    assert float(found.images.min()) >= low
    assert float(found.images.max()) <= high


def test_scores_raise_the_confidence_far_above_that_of_the_starts() -> None:
    where = context()
    found = SCORES.reconstruct(oracle_for(SCORES), where)
    curve = where.notes["target confidence by queries"]
    assert curve[0][0] == 0
    assert curve[0][1] < 0.5
    assert curve[-1][1] > 0.95
    assert float(own(linear(found.images).softmax(1), found).mean()) == pytest.approx(curve[-1][1], abs=1e-3)


def test_no_step_depends_on_the_scale_of_the_logits() -> None:
    images = [
        SCORES.reconstruct(oracle_for(SCORES, lambda x, s=scale: linear(x, s)), context()).images
        for scale in (2.0**-20, 1.0, 2.0**20)
    ]
    torch.testing.assert_close(images[0], images[1])
    torch.testing.assert_close(images[2], images[1])


@pytest.mark.parametrize("attack", BOTH)
@pytest.mark.parametrize("budget", [16, 17, 40, 75, 333])
def test_the_budget_is_never_exceeded_and_the_notes_count_what_was_asked(attack: Any, budget: int) -> None:
    oracle, where = oracle_for(attack), context()
    replace(attack, queries_per_image=budget, queries_per_call=100).reconstruct(oracle, where)
    assert 0 < oracle.queries <= 9 * budget
    assert where.notes["queries"] == oracle.queries
    assert where.notes["queries per image"] == oracle.queries / 9
    assert where.notes["share labelled with the class by queries"][-1][0] <= budget


@pytest.mark.parametrize("attack", BOTH)
def test_most_of_the_budget_is_used(attack: Any) -> None:
    oracle = oracle_for(attack)
    attack.reconstruct(oracle, context())
    assert oracle.queries > 0.85 * 9 * 600


@pytest.mark.parametrize("attack", BOTH)
def test_calls_are_large_and_no_larger_than_asked_for(attack: Any) -> None:
    sizes: list[int] = []
    answer = oracle_for(attack)

    def watched(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return answer(x)

    replace(attack, queries_per_image=200, queries_per_call=120).reconstruct(Oracle(watched), context())
    assert max(sizes) <= 120
    assert sum(sizes) / len(sizes) > 30


@pytest.mark.parametrize("attack", BOTH)
def test_more_queries_leave_less_doubt(attack: Any) -> None:
    means = []
    for budget in (50, 600):
        found = replace(attack, queries_per_image=budget).reconstruct(oracle_for(attack), context())
        means.append(float(own(correlation(found), found).mean()))
    assert means[1] > means[0] + 0.1


@pytest.mark.parametrize("attack", BOTH)
def test_the_seed_alone_decides_the_images_and_the_notes(attack: Any) -> None:
    results = []
    for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(global_seed)
        where, source = context(seed), generator(7)
        found = attack.reconstruct(oracle_for(attack, lambda x, s=source: noisy(x, s)), where)
        results.append((found.images, where.notes))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    assert not torch.equal(results[0][0], results[2][0])


@pytest.mark.parametrize("attack", BOTH)
def test_a_random_target_is_inverted_too(attack: Any) -> None:
    source = generator(3)
    found = attack.reconstruct(oracle_for(attack, lambda x: noisy(x, source)), context())
    assert float(own(correlation(found), found).mean()) > 0.5


@pytest.mark.parametrize("attack", BOTH)
def test_a_spiking_network_behind_an_interface_is_driven_towards_the_class(attack: Any) -> None:
    target, source = tiny_target("rate"), generator()
    task = replace(TASK, image_shape=(2, 8, 8))
    where = context(task=task)
    with torch.no_grad():
        oracle = oracle_for(attack, lambda x: target(x, source))
        replace(attack, images_per_class=2, queries_per_image=300).reconstruct(oracle, where)
    curve = where.notes["share labelled with the class by queries"]
    assert curve[-1][1] > curve[0][1] + 0.2


@pytest.mark.parametrize("attack", BOTH)
def test_two_images_of_a_class_differ(attack: Any) -> None:
    found = replace(attack, queries_per_image=100).reconstruct(oracle_for(attack), context())
    assert all(len(found.images[found.labels == c].unique(dim=0)) == 3 for c in range(3))


def test_scores_that_never_change_yield_noise_and_the_notes_say_so() -> None:
    where = context()
    constant = Oracle(lambda x: torch.ones(len(x), 3))
    found = SCORES.reconstruct(constant, where)
    assert where.notes["share of updates without an answer"] == 1.0
    assert {value for _, value in where.notes["target confidence by queries"]} == {0.3333}
    assert torch.isfinite(found.images).all()
    assert where.notes["share labelled with the class by queries"][-1][1] == 0.3333
    moved = context()
    SCORES.reconstruct(oracle_for(SCORES), moved)
    assert moved.notes["share of updates without an answer"] == 0.0


def test_an_image_that_a_silent_target_says_nothing_about_is_drawn_anew() -> None:
    """The templates are smooth: uniform noise is too unlike them for this target to speak."""
    where = context()
    found = SCORES.reconstruct(Oracle(lambda x: linear(x).sign() * (linear(x).abs() - 1).clamp(min=0)), where)
    assert 0 < where.notes["share of updates without an answer"] < 0.5
    assert where.notes["share labelled with the class by queries"][-1][1] == 1.0
    assert float(own(correlation(found), found).mean()) > 0.5


def test_a_class_that_is_never_found_yields_its_starts_and_is_named() -> None:
    where = context()
    oracle = Oracle(lambda x: torch.ones(len(x), dtype=torch.int64))
    found = LABELS.reconstruct(oracle, where)
    assert found.labels.bincount().tolist() == [3, 3, 3]
    assert torch.isfinite(found.images).all()
    assert where.notes["classes never found"] == ["a", "c"]
    assert where.notes["images returned as they started"] == 6
    assert [value for _, value in where.notes["share labelled with the class by queries"]] == [0.3333] * 7
    assert oracle.queries <= 9 * 600


def test_where_no_class_is_found_nothing_crashes_and_the_search_was_all_that_was_spent() -> None:
    where, four = context(), Oracle(lambda x: torch.full((len(x),), 3))
    LABELS.reconstruct(four, where)
    assert where.notes["classes never found"] == ["a", "b", "c"]
    assert where.notes["radius by queries, share of the range"] == []
    assert where.notes["share labelled with the class by queries"][-1][1] == 0.0
    assert four.queries <= 0.25 * 9 * 600


def test_an_image_of_a_class_found_once_is_where_all_of_its_images_start() -> None:
    lucky: list[Tensor] = []

    def answer(x: Tensor) -> Tensor:
        """Class 1 once, for one image; afterwards for whatever is near it."""
        if not lucky:
            lucky.append(x[-1].clone())
        near = (x - lucky[0]).square().flatten(1).mean(1) < 0.01
        return near.long()

    where = context()
    found = LABELS.reconstruct(Oracle(answer), where)
    assert where.notes["images returned as they started"] == 3
    of_the_class = found.images[found.labels == 1]
    assert where.notes["classes never found"] == ["c"]
    assert ((of_the_class - lucky[0]).square().flatten(1).mean(1) < 0.01).all()
    assert len(of_the_class.unique(dim=0)) == 3


def test_the_sphere_grows_where_everything_around_an_image_has_its_label() -> None:
    where = context()
    LABELS.reconstruct(oracle_for(LABELS), where)
    radii = [value for _, value in where.notes["radius by queries, share of the range"]]
    assert radii == sorted(radii)
    assert radii[-1] > 2 * LABELS.radius


def test_an_image_only_moves_to_where_it_keeps_its_label() -> None:
    where = context()
    found = LABELS.reconstruct(oracle_for(LABELS), where)
    assert (linear(found.images).argmax(1) == found.labels).all()
    assert where.notes["share labelled with the class by queries"][-1][1] == 1.0


def test_roughness_falls_against_its_slope() -> None:
    edge = torch.zeros(1, 1, 4, 4)
    edge[..., 2:] = 1.0
    expected = torch.tensor([0.0, -1.0, 1.0, 0.0]).expand(4, 4)
    torch.testing.assert_close(roughness_slope(edge)[0, 0], expected, atol=1e-3, rtol=0)
