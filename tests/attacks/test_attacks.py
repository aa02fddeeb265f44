"""The attacks climb where there is something to climb, and say how they went."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from attacks.direct_inversion import DirectInversion
from attacks.reconversion import Reconversion
from audit.contracts import Attack, AttackContext, NotApplicable, Reconstructions, Task
from audit.monitor import SilentMonitor
from audit.networks.ascent import Ascent, Gradient, StepRule, class_images
from audit.spiking.network import SpikingNetwork
from tests.networks.teachers import CPU, TASK, rand, tiny_target, tiny_teacher

RECONVERSION = Reconversion(images_per_class=2, updates=12)
INVERSION = DirectInversion(images_per_class=2, updates=12)
BOTH = [RECONVERSION, INVERSION]
UNIT = replace(TASK, input_range=(0.0, 1.0))


def context(seed: int = 0, task: Task = TASK) -> AttackContext:
    return AttackContext(task, seed, CPU, SilentMonitor())


def own_logit(network: nn.Module, found: Reconstructions) -> float:
    """Mean logit of the class that each image claims."""
    with torch.no_grad():
        return float(network(found.images).gather(1, found.labels[:, None]).mean())


def noise(like: Reconstructions) -> Reconstructions:
    return Reconstructions(rand(*like.images.shape, seed=9), like.labels)


def weak_target(factor: float) -> SpikingNetwork:
    """The same spikes from weights and thresholds so small that the paper's step does nothing visible."""
    target = tiny_target()
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.mul_(factor)
        for neuron in target.neurons.values():
            neuron.threshold.mul_(factor)
    return target


@pytest.mark.parametrize("step", ["auto", "raw", "normalised"])
def test_reconversion_raises_the_class_logit_of_the_teacher(step: StepRule) -> None:
    found = replace(RECONVERSION, step=step, updates=30).reconstruct(tiny_target(), context())
    teacher = tiny_teacher()
    assert own_logit(teacher, found) > own_logit(teacher, noise(found)) + 0.1


@pytest.mark.parametrize("step", ["auto", "normalised"])
def test_direct_inversion_raises_the_class_logit_of_the_spiking_network(step: StepRule) -> None:
    target = tiny_target()
    found = replace(INVERSION, step=step).reconstruct(target, context())
    assert own_logit(target, found) > own_logit(target, noise(found)) + 0.1


def test_a_teacher_is_attacked_like_the_spiking_network_that_has_its_weights() -> None:
    plain, spiking = (RECONVERSION.reconstruct(each, context()) for each in (tiny_teacher(), tiny_target()))
    torch.testing.assert_close(plain.images, spiking.images)


def test_direct_inversion_has_nothing_to_say_about_an_ann() -> None:
    with pytest.raises(NotApplicable, match="no surrogate gradient"):
        INVERSION.reconstruct(tiny_teacher(), context())


@pytest.mark.parametrize("attack", BOTH)
@pytest.mark.parametrize("task", [TASK, UNIT])
@pytest.mark.parametrize("step", ["raw", "normalised"])
def test_images_are_of_every_class_and_stay_in_the_input_range(attack: Attack, task: Task, step: str) -> None:
    found = replace(attack, step=step, batch_size=4).reconstruct(tiny_target(), context(task=task))  # type: ignore[type-var]
    assert found.images.shape == (6, *task.image_shape)
    assert found.labels.bincount().tolist() == [2, 2, 2]
    low, high = task.input_range
    assert float(found.images.min()) >= low
    assert float(found.images.max()) <= high


@pytest.mark.parametrize("attack", BOTH)
def test_the_seed_alone_decides_the_images_and_the_notes(attack: Attack) -> None:
    results = []
    for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(global_seed)
        where = context(seed)
        results.append((attack.reconstruct(tiny_target("rate"), where).images, where.notes))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    assert not torch.equal(results[0][0], results[2][0])


@pytest.mark.parametrize("attack", BOTH)
def test_two_images_of_a_class_differ(attack: Attack) -> None:
    found = attack.reconstruct(tiny_target(), context())
    assert all(len(found.images[found.labels == c].unique(dim=0)) == 2 for c in range(3))


@pytest.mark.parametrize("attack", BOTH)
def test_the_targets_weights_are_left_alone(attack: Attack) -> None:
    target, untouched = tiny_target(), tiny_target().state_dict()
    attack.reconstruct(target, context())
    assert all(torch.equal(tensor, untouched[name]) for name, tensor in target.state_dict().items())


@pytest.mark.parametrize("attack", BOTH)
def test_where_the_raw_step_does_nothing_the_normalised_one_is_taken_and_the_notes_say_so(attack: Attack) -> None:
    target, where = weak_target(1e-2), context()
    found = attack.reconstruct(target, where)
    assert where.notes["step rule"].startswith("normalised: a raw step moved the image by")
    assert where.notes["image moved by, grey levels"] > 5
    expected = replace(attack, step="normalised")  # type: ignore[type-var]
    if isinstance(attack, Reconversion):  # the other one draws spikes in its pilot
        torch.testing.assert_close(found.images, expected.reconstruct(target, context()).images)


def test_where_the_raw_step_runs_to_the_limits_the_normalised_one_is_taken_and_the_notes_say_so() -> None:
    where = context()
    replace(RECONVERSION, rate=1e6).reconstruct(tiny_target(), where)
    assert where.notes["step rule"].startswith("normalised: a raw step drove ")


def test_where_the_raw_step_diverges_the_normalised_one_is_taken_and_the_notes_say_so() -> None:
    calls: list[None] = []

    def gradient_of() -> Gradient:
        calls.append(None)
        value = float("nan") if len(calls) == 1 else 1.0
        return lambda x, _: torch.full_like(x, value)

    where = context()
    found = class_images(gradient_of, 1, Ascent(3, 0.01, "auto", 0.01), where)
    assert where.notes["step rule"] == "normalised: a raw step diverged"
    assert torch.isfinite(found.images).all()


def test_where_the_raw_step_works_it_is_kept() -> None:
    where, raw = context(), context()
    found = replace(RECONVERSION, rate=1.0).reconstruct(tiny_target(), where)
    assert where.notes["step rule"] == "raw"
    expected = replace(RECONVERSION, rate=1.0, step="raw").reconstruct(tiny_target(), raw)
    assert torch.equal(found.images, expected.images)


def test_a_normalised_step_moves_every_image_by_its_rate_whatever_the_size_of_the_gradient() -> None:
    def gradient_of() -> Gradient:
        sizes = torch.tensor([1e-12, 1.0, 1e12]).view(3, 1, 1, 1)
        return lambda x, _: sizes * rand(*x.shape, seed=4)

    found = class_images(gradient_of, 1, Ascent(1, 1.0, "normalised", 1e-3), context(5))
    start = class_images(gradient_of, 1, Ascent(1, 1e-30, "raw", 1.0), context(5))
    rms = (found.images - start.images).square().flatten(1).mean(1).sqrt()
    torch.testing.assert_close(rms, torch.full((3,), 2e-3), rtol=0.05, atol=0)


def test_an_image_without_a_gradient_is_counted_and_stays_where_it_is() -> None:
    def gradient_of() -> Gradient:
        return lambda x, labels: torch.ones_like(x) * (labels != 0).view(-1, 1, 1, 1)

    where = context()
    found = class_images(gradient_of, 2, Ascent(4, 0.01, "normalised", 0.01), where)
    assert where.notes["share of updates without a gradient"] == pytest.approx(1 / 3)
    assert torch.isfinite(found.images).all()


def test_the_notes_say_how_far_the_images_moved() -> None:
    def gradient_of() -> Gradient:
        return lambda x, _: -torch.sign(x)

    where = context()
    class_images(gradient_of, 4, Ascent(1, 0.01, "raw", 0.01), where)
    assert where.notes["image moved by, grey levels"] == pytest.approx(0.01 * 255 / 2, rel=1e-3)


def test_images_are_blurred_before_every_nth_update() -> None:
    def roughness(updates: int) -> float:
        ascent = Ascent(updates, 1e-30, "raw", 0.01, blur_every=4)
        images = class_images(lambda: lambda x, _: torch.ones_like(x), 2, ascent, context()).images
        return float((images[..., 1:] - images[..., :-1]).abs().mean())

    assert roughness(3) == roughness(1)
    assert roughness(4) < 0.5 * roughness(3)
    assert roughness(7) == roughness(4)
    assert roughness(8) < roughness(7)


def gradient_maker(monkeypatch: pytest.MonkeyPatch, attack: DirectInversion, target: SpikingNetwork) -> Gradient:
    """The gradient function that an attack hands to the ascent."""
    handed = []
    monkeypatch.setattr("attacks.direct_inversion.class_images", lambda gradient_of, *_: handed.append(gradient_of))
    attack.reconstruct(target, context())
    maker: Gradient = handed[0]()
    return maker


X, CLASSES = rand(3, *TASK.image_shape), torch.arange(3)


def test_the_accumulator_is_reset_for_every_update_or_never(monkeypatch: pytest.MonkeyPatch) -> None:
    reset = gradient_maker(monkeypatch, INVERSION, tiny_target("direct"))
    first = reset(X, CLASSES)
    assert first.count_nonzero() > 0
    assert torch.equal(reset(X, CLASSES), first)
    kept = gradient_maker(monkeypatch, replace(INVERSION, reset_accumulator=False), tiny_target("direct"))
    for n in (1, 2, 3):
        torch.testing.assert_close(kept(X, CLASSES), n * first)


def test_the_gradient_is_of_the_mean_input_of_the_last_layer_whatever_scale_its_logits_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gradients: list[Tensor] = []
    for scale in (1.0, 37.0):
        target = tiny_target("direct")
        target.output_scale.fill_(scale)
        gradients.append(gradient_maker(monkeypatch, INVERSION, target)(X, CLASSES))
    torch.testing.assert_close(*gradients)
    x, target = X.clone().requires_grad_(), tiny_target("direct")
    (target(x).gather(1, CLASSES[:, None]).sum() / 16).backward()
    torch.testing.assert_close(gradients[0], x.grad)


def test_fewer_time_steps_are_those_of_a_shorter_network(monkeypatch: pytest.MonkeyPatch) -> None:
    short = tiny_target("direct")
    short.time_steps = 9
    fewer = gradient_maker(monkeypatch, replace(INVERSION, time_steps=9), tiny_target("direct"))
    torch.testing.assert_close(fewer(X, CLASSES), gradient_maker(monkeypatch, INVERSION, short)(X, CLASSES))
