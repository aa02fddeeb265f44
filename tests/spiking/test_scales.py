"""The search of layer scales, where there is something to find and where there is not."""

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from audit.networks.folding import fold_batch_norms
from audit.networks.queries import misfit
from audit.spiking.conversion import balance_thresholds
from audit.spiking.encoding import Encoder
from audit.spiking.network import SpikingNetwork
from audit.spiking.rates import mean_current
from audit.spiking.scales import Found, Scales, scaled_ann, search_scales
from audit.spiking.twin import spiking_twin
from audit.spiking.weight_normalization import activation_scales, scale_layers
from tests.networks.teachers import rand

STEPS = 200
IMAGES = rand(48, 2, 8, 8, seed=3)
QUERIES = rand(32, 2, 8, 8, seed=4)
ONE = torch.ones(())


def teacher(bias: bool) -> nn.Sequential:
    """Three layers of neurons; its biases matter as much as its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        layers = OrderedDict(
            conv1=nn.Conv2d(2, 8, 3, padding=1, bias=bias),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(8, 8, 3, padding=1, bias=bias),
            relu2=nn.ReLU(),
            pool=nn.AvgPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(128, 16, bias=bias),
            relu3=nn.ReLU(),
            fc2=nn.Linear(16, 3, bias=bias),
        )
        network = nn.Sequential(layers).eval().requires_grad_(False)
        for layer in network:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight *= 1.6
                if bias:
                    layer.bias.uniform_(-0.6, 0.6)
    return network


def normalised(ann: nn.Sequential, percentile: float = 100.0) -> SpikingNetwork:
    network = spiking_twin(ann, Encoder("direct"), STEPS).requires_grad_(False)
    scale_layers(network.layers, activation_scales(ann, IMAGES, percentile))
    for neuron in network.neurons.values():
        neuron.threshold.fill_(1.0)
    return network


def balanced(ann: nn.Sequential) -> SpikingNetwork:
    network = spiking_twin(ann, Encoder("direct"), STEPS).requires_grad_(False)
    balance_thresholds(network, IMAGES, seed=0)
    return network


def found(network: SpikingNetwork) -> tuple[Found, nn.Sequential]:
    wanted = mean_current(network, QUERIES, None)

    def misfit_of(scales: Scales) -> float:
        return misfit(scaled_ann(network, scales, ONE, rates=True), QUERIES, wanted)

    result = search_scales(network, misfit_of)
    return result, scaled_ann(network, result.scales, ONE)


def assert_the_teacher_up_to_a_factor(logits: Tensor, wanted: Tensor) -> None:
    """One positive factor for all classes and images."""
    factor = (logits * wanted).sum() / wanted.square().sum()
    assert factor > 0
    torch.testing.assert_close(logits / factor, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("percentile", [100.0, 90.0])
def test_of_a_weight_normalised_network_it_gives_the_teachers_logits(bias: bool, percentile: float) -> None:
    ann = teacher(bias)
    result, recovered = found(normalised(ann, percentile))
    assert_the_teacher_up_to_a_factor(recovered(QUERIES), ann(QUERIES))
    assert (result.tried == 1) is not bias


@pytest.mark.parametrize("bias", [False, True])
def test_of_a_threshold_balanced_network_it_gives_the_teachers_logits(bias: bool) -> None:
    ann = teacher(bias)
    assert_the_teacher_up_to_a_factor(found(balanced(ann))[1](QUERIES), ann(QUERIES))


def test_plain_reconversion_of_balanced_thresholds_is_another_network_where_there_are_biases() -> None:
    ann = teacher(bias=True)
    network = balanced(ann)
    plain = misfit(network.to_ann(), QUERIES, ann(QUERIES))
    assert plain > 0.05
    assert misfit(found(network)[1], QUERIES, ann(QUERIES)) < 1e-6


def test_a_scale_that_was_moved_into_the_thresholds_is_found() -> None:
    ann = teacher(bias=True)
    network = normalised(ann)
    before = network(QUERIES)
    for (name, neuron), factor in zip(network.neurons.items(), (4.0, 0.25, 8.0), strict=True):
        names = list(network.layers._modules)
        weighted = next(
            network.layers._modules[known]
            for known in reversed(names[: names.index(name)])
            if isinstance(network.layers._modules[known], nn.Conv2d | nn.Linear)
        )
        weighted.weight *= factor
        weighted.bias *= factor
        neuron.threshold *= factor
    assert torch.equal(network(QUERIES), before)
    assert misfit(network.to_ann(), QUERIES, ann(QUERIES)) > 0.05
    assert_the_teacher_up_to_a_factor(found(network)[1](QUERIES), ann(QUERIES))


def test_a_folded_batch_norm_is_undone_as_well() -> None:
    ann = teacher(bias=False)
    normed = nn.Sequential(OrderedDict([("conv1", ann.conv1), ("norm1", nn.BatchNorm2d(8))]))
    for name, layer in list(ann.named_children())[1:]:
        normed.add_module(name, layer)
    with torch.no_grad():
        normed.train()(IMAGES * 2 + 1)
        normed.norm1.bias.fill_(0.5)
    folded = fold_batch_norms(normed.eval())
    folded.conv2 = teacher(bias=True).conv2
    assert_the_teacher_up_to_a_factor(found(balanced(folded))[1](QUERIES), folded(QUERIES))


@pytest.mark.parametrize("factors", [(2.0, 0.5, 2.0), (1.0, 2.0, 0.25)])
def test_scales_planted_far_from_both_beginnings_are_found(factors: tuple[float, ...]) -> None:
    """Neurons that answer as if their thresholds were others than what stands in the network."""
    network = balanced(teacher(bias=True))
    planted = {
        name: neuron.threshold * factor for (name, neuron), factor in zip(network.neurons.items(), factors, strict=True)
    }
    wanted = scaled_ann(network, planted, ONE, rates=True)(QUERIES)

    def misfit_of(scales: Scales) -> float:
        return misfit(scaled_ann(network, scales, ONE, rates=True), QUERIES, wanted)

    thresholds = {name: neuron.threshold for name, neuron in network.neurons.items()}
    begun = min(misfit_of(thresholds), misfit_of({name: torch.ones(()) for name in thresholds}))
    result = search_scales(network, misfit_of)
    assert result.misfit < 0.1 * begun
    fresh = rand(64, 2, 8, 8, seed=9)
    sought = scaled_ann(network, planted, ONE)(fresh)
    assert misfit(scaled_ann(network, result.scales, ONE), fresh, sought) < 0.1 * misfit(
        scaled_ann(network, thresholds, ONE), fresh, sought
    )


def test_a_noisy_answer_moves_no_scale() -> None:
    network = balanced(teacher(bias=True))
    network.encoder, network.time_steps = Encoder("rate"), 24
    wanted = mean_current(network, QUERIES, torch.Generator().manual_seed(0))
    result = search_scales(network, lambda s: misfit(scaled_ann(network, s, ONE, rates=True), QUERIES, wanted))
    assert all(result.scales[name] == neuron.threshold for name, neuron in network.neurons.items())
