"""Within the bound the target errs; masked slopes, jumping coders and noise do not make it look robust."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attacks.evasion import Evasion
from attacks.square_evasion import SquareEvasion
from audit.contracts import Access, AttackContext, Images, NotApplicable, Oracle
from audit.errors import AuditError
from audit.monitor import SilentMonitor
from audit.networks.evasion import Box, apgd, checkpoints, fgsm, pgd, slope_of
from audit.networks.perturbations import margin
from audit.registry import ATTACKS
from audit.settings import validated
from audit.spiking.conversion import balance_thresholds
from audit.spiking.encoding import Coding, Encoder
from audit.spiking.network import SpikingNetwork
from audit.spiking.straight_through import StraightThrough
from audit.spiking.surrogate import Surrogate
from audit.spiking.twin import spiking_twin
from tests.networks.teachers import CPU, TASK, generator, rand, small_ann, tiny_teacher

UNIT = replace(TASK, input_range=(0.0, 1.0))
CODINGS: tuple[Coding, ...] = ("direct", "unsigned-rate", "phase", "latency")
METHODS = ("fgsm", "pgd", "apgd")
COUNT = 24


def context(seed: int = 0) -> AttackContext:
    return AttackContext(UNIT, seed, CPU, SilentMonitor())


def fragile(coding: Coding = "direct", steps: int = 16) -> SpikingNetwork:
    """An untrained network: what it answers hangs on little."""
    network = spiking_twin(tiny_teacher(), Encoder(coding), steps)
    balance_thresholds(network, (rand(16, *UNIT.image_shape) + 1) / 2, seed=0, scale=0.7)
    return network.requires_grad_(False)


def right(target: Any, count: int = COUNT) -> Images:
    """Random images with the labels that the target gives them."""
    pixels = torch.randint(256, (count, *UNIT.image_shape), generator=generator(1), dtype=torch.uint8)
    return Images(pixels, answers(target, UNIT.normalise(pixels)))


def answers(target: Any, x: Tensor) -> Tensor:
    logits: Tensor = target(x, generator(3)) if isinstance(target, SpikingNetwork) else target(x)
    return logits.argmax(1)


def fallen(target: Any, images: Images, found: Tensor) -> int:
    return int((answers(target, found) != images.labels).sum())


def oracle(target: SpikingNetwork) -> Oracle:
    draws = generator(5)
    return Oracle(lambda x: target(x, draws))


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("method", METHODS)
def test_a_fragile_target_errs_under_every_coding_and_method(coding: Coding, method: Any) -> None:
    target = fragile(coding)
    images = right(target)
    found = Evasion(levels=16, method=method, steps=10, encodings=2).evade(target, context(), images)
    assert fallen(target, images, found.images) > COUNT / 4


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("attack", [*(Evasion(method=m, steps=3) for m in METHODS), Evasion(gradient="reconverted")])
@pytest.mark.parametrize("levels", [2, 16])
def test_bound_and_range_hold_to_the_last_bit(coding: Coding, attack: Evasion, levels: int) -> None:
    target = fragile(coding, steps=4)
    images = right(target, 8)
    attack = replace(attack, levels=levels)
    found = attack.evade(target, context(), images).images
    lower, upper = UNIT.around(UNIT.normalise(images.pixels), levels / 255)
    assert (found >= lower).all()
    assert (found <= upper).all()
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert found.shape == (8, *UNIT.image_shape)


@pytest.mark.parametrize("attack", [Evasion(method="pgd", steps=3, levels=16), SquareEvasion(queries_per_image=20)])
def test_the_same_seed_gives_the_same_images_and_another_one_others(attack: Any) -> None:
    target = fragile("unsigned-rate", steps=6)
    images = right(target, 8)

    def made(seed: int) -> Tensor:
        handed = oracle(target) if isinstance(attack, SquareEvasion) else target
        return attack.evade(handed, context(seed), images).images

    assert torch.equal(made(0), made(0))
    assert not torch.equal(made(0), made(1))


def test_a_masked_surrogate_does_not_make_the_target_look_robust_and_a_sweep_of_such_does_not_fail() -> None:
    target = fragile()
    images = right(target)
    for neuron in target.neurons.values():
        neuron.surrogate = Surrogate("rectangle", 1e-9)
    blind = Evasion(levels=16, widths=(1e-9,), shapes=("rectangle",))
    assert fallen(target, images, blind.evade(target, context(), images).images) == 0
    where = context()
    found = Evasion(levels=16).evade(target, where, images)
    assert fallen(target, images, found.images) > COUNT / 4
    left = where.notes["images that stand after each gradient"]
    assert left["its own surrogate"] == COUNT
    assert list(left.values()) == sorted(left.values(), reverse=True)


def test_of_each_image_the_best_of_the_sweep_counts() -> None:
    target = fragile()
    images = right(target)
    alone = [
        fallen(target, images, Evasion(levels=8, widths=(w,), shapes=(s,)).evade(target, context(), images).images)
        for w in (1.0, 3.0)
        for s in ("arctan", "triangle")
    ]
    both = Evasion(levels=8).evade(target, context(), images)
    assert fallen(target, images, both.images) >= max(alone)


def test_a_loss_that_saturates_has_no_gradient_and_a_standardised_one_has() -> None:
    ann = small_ann()
    x, labels = rand(6, 2, 6, 6), ann(rand(6, 2, 6, 6)).argmax(1)

    def large(x: Tensor) -> Tensor:
        return 1e6 * ann(x)

    assert slope_of(large, labels, "cross-entropy")(x)[1].abs().max() == 0
    assert (slope_of(large, labels, "standardised")(x)[1].flatten(1).abs().amax(1) > 0).all()
    ours, plain = slope_of(large, labels, "standardised")(x)[1], slope_of(ann, labels, "standardised")(x)[1]
    torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-6)


def test_a_target_that_answers_nothing_is_returned_unchanged_images() -> None:
    target = fragile()
    for neuron in target.neurons.values():
        neuron.threshold.fill_(1e9)
    images = Images(right(target).pixels, torch.zeros(COUNT, dtype=torch.int64))
    found = Evasion(levels=8).evade(target, context(), images)
    assert torch.equal(found.images, UNIT.normalise(images.pixels))


def test_an_ann_is_attacked_as_it_is_and_has_nothing_to_reconvert() -> None:
    target = tiny_teacher()
    images = right(target)
    found = Evasion(levels=16, method="pgd", steps=10).evade(target, context(), images)
    assert fallen(target, images, found.images) > COUNT / 4
    with pytest.raises(NotApplicable, match="nothing to reconvert"):
        Evasion(gradient="reconverted").evade(target, context(), images)


def test_a_target_with_its_weights_left_as_they_were() -> None:
    target = fragile()
    before = [tensor.clone() for tensor in target.state_dict().values()]
    surrogates = [neuron.surrogate for neuron in target.neurons.values()]
    Evasion().evade(target, context(), right(target, 4))
    assert all(torch.equal(a, b) for a, b in zip(before, target.state_dict().values(), strict=True))
    assert surrogates == [neuron.surrogate for neuron in target.neurons.values()]
    assert target.encoder == Encoder("direct")


@pytest.mark.parametrize("coding", CODINGS)
def test_straight_through_gives_the_coders_spikes_and_every_steps_gradient(coding: Coding) -> None:
    x = (rand(2, 3, seed=4) + 1) / 2
    through = StraightThrough.of(Encoder(coding, phases=4, zero_spikes=True))
    assert (through.phases, through.zero_spikes, through.static) == (4, True, coding == "direct")
    wanted = Encoder(coding, 4, True)(x, 5, generator(2))
    moving = x.clone().requires_grad_(True)
    torch.testing.assert_close(through(moving, 5, generator(2)), wanted, rtol=0, atol=1e-6)
    weights = rand(5, 2, 3)
    (gradient,) = torch.autograd.grad((through(moving, 5, generator(2)) * weights).sum(), moving)
    torch.testing.assert_close(gradient, weights.sum(0))


def test_through_the_coder_of_direct_coding_the_gradient_is_the_networks_own() -> None:
    target = fragile()
    x, labels = UNIT.normalise(right(target).pixels), right(target).labels
    own = slope_of(lambda x: target(x, None), labels, "cross-entropy")(x)[1]
    logits_of = Evasion()._through(target, None, generator())
    torch.testing.assert_close(slope_of(logits_of, labels, "cross-entropy")(x)[1], own)


def test_apgd_looks_where_the_paper_says_and_never_ends_below_its_start() -> None:
    assert sorted(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    ann = small_ann()
    x = rand(12, 2, 6, 6)
    labels = ann(x).argmax(1)
    slope = slope_of(ann, labels, "cross-entropy")
    box = Box((x - 0.1).clamp(-1, 1), (x + 0.1).clamp(-1, 1), 0.1)
    start = slope(x)[0]
    for climb in (pgd(slope, x, box, 20, 0.0125), apgd(slope, x, box, 20)):
        assert (slope(climb.best)[0] >= start).all()
        assert (slope(climb.best)[0] >= slope(climb.last)[0] - 1e-6).all()
    one = fgsm(slope, x, box)
    assert slope(apgd(slope, x, box, 20).best)[0].mean() >= slope(one)[0].mean() - 1e-6


@pytest.mark.parametrize("steps", [1, 10])
def test_fgsm_and_pgd_are_those_of_the_adversarial_robustness_toolbox(steps: int) -> None:
    evasion = pytest.importorskip("art.attacks.evasion")
    classification = pytest.importorskip("art.estimators.classification")
    ann = small_ann()
    x = rand(16, 2, 6, 6)
    labels = ann(x).argmax(1)
    eps, step = 0.1, 0.025
    estimator = classification.PyTorchClassifier(
        ann, nn.CrossEntropyLoss(), (2, 6, 6), 3, clip_values=(-1.0, 1.0), device_type="cpu"
    )
    box = Box((x - eps).clamp(-1, 1), (x + eps).clamp(-1, 1), eps)
    slope = slope_of(ann, labels, "cross-entropy")
    if steps == 1:
        theirs = evasion.FastGradientMethod(estimator, eps=eps)
        ours = fgsm(slope, x, box)
    else:
        theirs = evasion.ProjectedGradientDescent(
            estimator, eps=eps, eps_step=step, max_iter=steps, num_random_init=0, verbose=False
        )
        ours = pgd(slope, x, box, steps, step).last
    np.testing.assert_allclose(ours.numpy(), theirs.generate(x.numpy(), labels.numpy()), atol=1e-6)


def test_square_asks_for_scores_only_and_counts_every_query_within_its_budget() -> None:
    target = fragile("unsigned-rate", steps=8)
    images = right(target)
    where, handed = context(), oracle(target)
    asked: list[int] = []
    counting = Oracle(lambda x: (asked.append(len(x)), handed(x))[1])
    SquareEvasion(levels=8, queries_per_image=30).evade(counting, where, images)
    assert ATTACKS.get("square-evasion").access is Access.SCORES
    assert sum(asked) == counting.queries == where.notes["queries"]
    assert where.notes["queries per image"] <= 30
    assert all(count <= COUNT for count in asked)


def test_square_asks_a_random_target_about_its_best_image_again_so_that_a_lucky_answer_does_not_stand() -> None:
    """The first change looks best by luck, and is the worst: every later one is better."""
    asked: list[Tensor] = []

    def target(x: Tensor) -> Tensor:
        asked.append(x)
        seen_before = any(torch.equal(x, other) for other in asked[:-1])
        margins = {1: 9.0, 2: 8.0, 3: 9.0, 4: 0.5}.get(len(asked), 5.0 if seen_before else 1.0)
        return torch.tensor([[margins, 0.0, 0.0]]).expand(len(x), -1)

    images = Images(torch.full((1, *UNIT.image_shape), 128, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    found = SquareEvasion(levels=16, queries_per_image=8).evade(Oracle(target), context(), images).images
    assert len(asked) == 8
    assert not torch.equal(found, asked[3])
    assert torch.equal(asked[4], asked[3])
    assert torch.equal(asked[6], asked[5])


def test_square_asks_a_target_that_answers_alike_once_about_each_image() -> None:
    asked: list[Tensor] = []
    logits = torch.tensor([[1.0, 0.0, 0.0]])
    target = Oracle(lambda x: (asked.append(x), logits.expand(len(x), -1))[1])
    images = Images(torch.full((1, *UNIT.image_shape), 128, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    SquareEvasion(levels=16, queries_per_image=9).evade(target, context(), images)
    assert len(asked) == 9
    assert sum(torch.equal(image, asked[0]) for image in asked) == 2


def test_square_finds_errors_of_a_target_without_any_gradient() -> None:
    target = fragile("phase")
    images = right(target)
    found = SquareEvasion(levels=16, queries_per_image=150).evade(oracle(target), context(), images)
    assert fallen(target, images, found.images) > COUNT / 4
    lower, upper = UNIT.around(UNIT.normalise(images.pixels), 16 / 255)
    assert ((found.images >= lower) & (found.images <= upper)).all()
    before = margin(target(UNIT.normalise(images.pixels)), images.labels)
    assert (margin(target(found.images), images.labels) < before).float().mean() > 0.5


@pytest.mark.parametrize(("field", "value"), [("levels", "0"), ("levels", "256"), ("images", "0")])
def test_a_bound_of_nothing_or_of_more_than_the_range_is_refused(field: str, value: str) -> None:
    for name, attack in (("evasion", Evasion), ("square-evasion", SquareEvasion)):
        with pytest.raises(AuditError, match=f"{name}.{field}"):
            validated(attack, {field: value}, name)
