"""Scale search: what it tries, what it writes down, and what it makes of a network with biases."""

import pytest
import torch
from torch import nn

from attacks.scale_search import ScaleSearch
from audit.contracts import AttackContext, NotApplicable
from audit.monitor import SilentMonitor
from audit.networks.folding import fold_batch_norms
from audit.networks.perturbations import margin
from audit.networks.queries import misfit, own_images
from audit.networks.vgg import vgg
from audit.spiking.conversion import balance_thresholds
from audit.spiking.encoding import Encoder
from audit.spiking.network import SpikingNetwork
from audit.spiking.rates import mean_current
from audit.spiking.twin import spiking_twin
from tests.networks.teachers import CPU, TASK, rand, tiny_target, tiny_teacher

ATTACK = ScaleSearch(images_per_class=3, updates=30, queries=16, total_variation=0.0, l2=0.0)


def context(seed: int = 0) -> AttackContext:
    return AttackContext(TASK, seed, CPU, SilentMonitor())


def biased_target() -> SpikingNetwork:
    network = vgg("vgg5-bn", TASK.image_shape, len(TASK.classes), width=0.07, hidden=12, dropout=0.0, seed=1)
    with torch.no_grad():
        for place in range(4):
            network.train()(rand(32, *TASK.image_shape, seed=place) + 0.5)
        for layer in network:
            if isinstance(layer, nn.BatchNorm2d):
                layer.bias.copy_(rand(len(layer.bias), seed=7) * 0.5)
    target = spiking_twin(fold_batch_norms(network.eval()), Encoder("direct"), 32)
    balance_thresholds(target, rand(24, *TASK.image_shape), seed=0, scale=0.6)
    return target


@pytest.mark.parametrize("biased", [False, True])
def test_it_raises_the_margin_of_the_target(biased: bool) -> None:
    target = biased_target() if biased else tiny_target("direct", steps=32)
    found = ATTACK.reconstruct(target, context())
    assert found.images.shape == (9, *TASK.image_shape)
    with torch.no_grad():
        noise = rand(9, *TASK.image_shape, seed=9)
        reached = margin(target(found.images), found.labels).mean()
        assert reached > margin(target(noise), found.labels).mean()


def test_with_biases_it_notes_a_fit_that_plain_reconversion_has_not_got() -> None:
    at_hand, target = context(), biased_target()
    ATTACK.reconstruct(target, at_hand)
    assert at_hand.notes["combinations tried"] > 1
    queries = own_images(ATTACK.queries, context())
    plain = misfit(target.to_ann(), queries, mean_current(target, queries, None))
    assert at_hand.notes["error on its queries"] < 0.3 * plain
    assert set(at_hand.notes["layer scales"]) == {"relu1", "relu2", "relu3", "relu_fc1"}


def test_without_biases_nothing_is_searched() -> None:
    at_hand = context()
    ATTACK.reconstruct(tiny_target("direct"), at_hand)
    assert at_hand.notes["combinations tried"] == 1


def test_an_ann_has_no_scales_to_search() -> None:
    with pytest.raises(NotApplicable, match="nothing was scaled"):
        ATTACK.reconstruct(tiny_teacher(), context())


def test_the_same_seed_gives_the_same_images() -> None:
    first, again, other = (ATTACK.reconstruct(biased_target(), context(seed)).images for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
