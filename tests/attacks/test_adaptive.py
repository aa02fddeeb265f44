"""The adaptive attacks see past what hides a class from the paper's two."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from attacks.adaptive_inversion import AdaptiveInversion
from attacks.adaptive_inversion import _gain as gain_of
from attacks.adaptive_reconversion import AdaptiveReconversion
from attacks.direct_inversion import DirectInversion
from attacks.weight_recovery import WeightRecovery
from audit.contracts import AttackContext, Images, NotApplicable, Reconstructions
from audit.monitor import SilentMonitor
from audit.networks.queries import own_images
from audit.spiking.network import SpikingNetwork
from audit.spiking.rates import Substitute
from audit.spiking.surrogate import Surrogate
from tests.networks.teachers import CPU, TASK, rand, tiny_target, tiny_teacher

RECONVERSION = AdaptiveReconversion(images_per_class=3, updates=30, queries=24, total_variation=0.0, l2=0.0)
INVERSION = AdaptiveInversion(
    images_per_class=3,
    updates=25,
    pilot_updates=8,
    widths=(1.0, 3.0),
    shapes=("triangle",),
    total_variation=0.0,
    l2=0.0,
)


def context(seed: int = 0, leaked: Images | None = None) -> AttackContext:
    return AttackContext(TASK, seed, CPU, SilentMonitor(), leaked)


def margin(network: nn.Module, found: Reconstructions) -> float:
    """Mean margin of the claimed class on the target itself."""
    generator = [torch.Generator().manual_seed(0)] if isinstance(network, SpikingNetwork) else []
    with torch.no_grad():
        logits = network(found.images, *generator)
    own = logits.gather(1, found.labels[:, None])[:, 0]
    return float((own - logits.scatter(1, found.labels[:, None], float("-inf")).amax(1)).mean())


def noise(found: Reconstructions) -> Reconstructions:
    return Reconstructions(rand(*found.images.shape, seed=9).clamp(-1, 1), found.labels)


def masked_target() -> SpikingNetwork:
    target = tiny_target("rate", steps=24)
    for neuron in target.neurons.values():
        neuron.surrogate = Surrogate("rectangle", width=1e-9)
    return target


@pytest.mark.parametrize("activation", ["relu", "clip", "clip-floor", "rate-curve"])
@pytest.mark.parametrize("calibrate", [True, False])
def test_reconversion_with_any_substitute_raises_the_margin_of_the_target(
    activation: Substitute, calibrate: bool
) -> None:
    target = tiny_target("rate", steps=24)
    attack = replace(RECONVERSION, activation=activation, calibrate=calibrate)
    found = attack.reconstruct(target, context())
    assert margin(target, found) > margin(target, noise(found))


def test_distillation_brings_the_ann_nearer_to_the_target_on_its_queries() -> None:
    handed = context()
    replace(RECONVERSION, activation="relu", distillation_steps=80, distillation_rate=3e-3).reconstruct(
        tiny_target("rate", steps=24), handed
    )
    assert handed.notes["error after distillation"] < 0.7 * handed.notes["error on its queries"]


def test_leaked_images_enter_the_queries() -> None:
    leaked = Images(torch.randint(0, 256, (5, *TASK.image_shape), dtype=torch.uint8), torch.arange(5) % 3)
    queries = own_images(RECONVERSION.queries, context(leaked=leaked))
    assert len(queries) == RECONVERSION.queries + 5
    torch.testing.assert_close(queries[-5:], TASK.normalise(leaked.pixels))


def test_inversion_sees_through_a_surrogate_that_masks_the_gradient() -> None:
    target = masked_target()
    blind = DirectInversion(images_per_class=3, updates=25).reconstruct(masked_target(), context())
    handed = context()
    found = INVERSION.reconstruct(target, handed)
    assert margin(target, found) > margin(target, blind) + 0.5 * abs(margin(target, noise(found)))
    assert handed.notes["chosen"]
    assert len(handed.notes["pilot margins"]) == 4


def test_inversion_leaves_the_target_s_own_surrogate_and_coder_as_they_were() -> None:
    target = masked_target()
    INVERSION.reconstruct(target, context())
    assert {neuron.surrogate for neuron in target.neurons.values()} == {Surrogate("rectangle", width=1e-9)}
    assert target.encoder.coding == "rate"


def test_restarts_never_make_the_images_worse_in_the_target_s_eyes() -> None:
    single = replace(INVERSION, updates=6)
    target = tiny_target("direct")
    one, three = (replace(single, restarts=n).reconstruct(target, context()) for n in (1, 3))
    assert margin(target, three) >= margin(target, one)


def test_a_coding_without_a_gradient_is_attacked_through_its_expected_input() -> None:
    target = tiny_target("direct")
    target.encoder = replace(target.encoder, coding="phase")
    handed = AttackContext(replace(TASK, input_range=(0.0, 1.0)), 0, CPU, SilentMonitor())
    found = replace(INVERSION, inputs=("expected", "straight-through")).reconstruct(target, handed)
    assert len(found.labels) == 9
    with pytest.raises(NotApplicable, match="phase coding has no gradient"):
        replace(INVERSION, inputs=("straight-through",)).reconstruct(target, handed)


def test_an_ann_is_attacked_as_it_is_and_once() -> None:
    found = replace(RECONVERSION, activation="relu").reconstruct(tiny_teacher(), context())
    start = replace(RECONVERSION, activation="relu", updates=1).reconstruct(tiny_teacher(), context())
    assert margin(tiny_teacher(), found) > margin(tiny_teacher(), start)
    for attack in (RECONVERSION, INVERSION):
        with pytest.raises(NotApplicable, match="the target is an ANN"):
            attack.reconstruct(tiny_teacher(), context())


def test_the_expected_input_of_a_coding_is_scaled_as_its_spikes_are() -> None:
    """Phase coding's mean over time is an eighth of the image, and so is what the first layer is driven with."""
    target = tiny_target("direct")
    target.encoder = replace(target.encoder, coding="phase")
    target.time_steps = 16
    handed = AttackContext(replace(TASK, input_range=(0.0, 1.0)), 0, CPU, SilentMonitor())
    assert gain_of(target, handed) == pytest.approx(1 / 8, abs=2**-9)
    assert gain_of(tiny_target("rate"), context()) == 1


@pytest.mark.parametrize("attack", [replace(RECONVERSION, distillation_steps=3), replace(INVERSION, encodings=2)])
def test_the_same_seed_gives_the_same_images(attack: AdaptiveReconversion | AdaptiveInversion) -> None:
    first, again, other = (attack.reconstruct(tiny_target("rate"), context(seed)).images for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_recovered_weights_are_the_target_s() -> None:
    target = tiny_target("direct")
    recovered = WeightRecovery().recover(target, context())
    found = [layer.weight for layer in recovered.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    own = [layer.weight for layer in target.layers if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert all(torch.equal(a, b) for a, b in zip(found, own, strict=True))
    x = rand(4, *TASK.image_shape)
    torch.testing.assert_close(WeightRecovery().recover(target, context())(x), tiny_teacher()(x))
    teacher = tiny_teacher()
    assert WeightRecovery().recover(teacher, context()) is teacher


@pytest.mark.parametrize("attack", [RECONVERSION, replace(INVERSION, widths=(1.0,), inputs=("expected",))])
def test_a_last_layer_that_keeps_every_answer_hides_nothing(attack: AdaptiveReconversion | AdaptiveInversion) -> None:
    """The same vector added to every class, and everything made tiny: softmax and argmax stay what they were."""
    target, disguised = tiny_target("direct", steps=24), tiny_target("direct", steps=24)
    with torch.no_grad():
        weight = disguised.layers.get_submodule("fc2").weight
        weight.add_(20 * weight.std()).mul_(1e-20)  # type: ignore[union-attr, operator, arg-type]
    plain, hidden = (attack.reconstruct(network, context()) for network in (target, disguised))
    assert margin(target, hidden) > 0.8 * margin(target, plain) > 0.8 * margin(target, noise(plain))
