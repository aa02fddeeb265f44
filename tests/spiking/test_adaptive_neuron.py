"""The neuron with multiplicative adaptation, and the transfer function that stands for it in an ANN."""

import pytest
import torch
from torch import Tensor

from audit.spiking.adaptive_neuron import AdaptiveLIF, AdaptiveRate
from audit.spiking.encoding import Encoder
from audit.spiking.files import build, describe, weights
from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF
from audit.spiking.simulation import Execution
from audit.spiking.surrogate import Surrogate
from tests.networks.teachers import rand, small_ann, small_snn


def by_hand(current: list[float], threshold: float, adaptation: float, decay: float) -> list[float]:
    """One neuron, its equations one after the other."""
    u = risen = 0.0
    spikes = []
    for i in current:
        u += i
        theta = threshold + risen
        fired = u > theta / 2
        if fired:
            u -= theta
            risen += adaptation * theta
        risen *= decay
        spikes.append(float(fired))
    return spikes


def adaptive_snn(threshold: float = 0.2, steps: int = 9) -> SpikingNetwork:
    network = small_snn("direct", steps)
    for name in list(network.neurons):
        setattr(network.layers, name, AdaptiveLIF(threshold, 0.1, 0.8))
    return network


@pytest.mark.parametrize("seed", range(4))
def test_it_does_what_its_equations_say(seed: int) -> None:
    current = (rand(60, seed=seed) + 0.6).tolist()
    spikes, _ = AdaptiveLIF(0.7, 0.15, 0.8)(torch.tensor(current)[:, None])
    assert spikes[:, 0].tolist() == by_hand(current, 0.7, 0.15, 0.8)


def test_the_threshold_rises_with_every_spike_and_falls_back_without() -> None:
    neuron = AdaptiveLIF(1.0, 0.1, 0.9)
    _, busy = neuron(torch.full((50, 1), 2.0))
    assert float(busy[0, 1]) > 0.5
    _, idle = neuron(torch.zeros(100, 1), busy)
    assert float(idle[0, 1]) < 0.01


def test_without_adaptation_it_is_an_integrate_and_fire_neuron_that_starts_half_full() -> None:
    current = rand(40, 3, seed=1) + 0.4
    plain, _ = LIF(0.9, initial=0.5)(current)
    adaptive, _ = AdaptiveLIF(0.9, adaptation=0.0)(current)
    assert torch.equal(adaptive, plain)


@pytest.mark.parametrize(("adaptation", "decay"), [(0.1, 0.9), (0.05, 0.9), (0.2, 0.7), (0.0, 0.9)])
@pytest.mark.parametrize("threshold", [0.4, 1.0])
@pytest.mark.parametrize("steps", [4, 32, 1500])
def test_the_transfer_function_is_the_rate_that_is_measured(
    adaptation: float, decay: float, threshold: float, steps: int
) -> None:
    """As near as a count of whole spikes can be: half a spike."""
    current = torch.linspace(-0.5, 6 * threshold, 400)
    spikes, _ = AdaptiveLIF(threshold, adaptation, decay)(current.expand(steps, 400))
    expected = AdaptiveRate(threshold, adaptation, decay, steps)(current)
    torch.testing.assert_close(spikes.mean(0), expected.detach(), atol=0.51 / steps + 0.002, rtol=0)


def test_over_few_steps_a_neuron_fires_more_than_in_the_end() -> None:
    few, many = (AdaptiveRate(0.5, 0.1, 0.9, steps)(torch.tensor(0.7)) for steps in (32, 3000))
    assert few - many > 0.05


def test_the_transfer_function_rises_ever_more_slowly_and_its_slope_is_its_gradient() -> None:
    curve, z = AdaptiveRate(0.5, 0.1, 0.9, 200), torch.linspace(0.1, 4, 8001, requires_grad=True)
    rate = curve(z)
    (slope,) = torch.autograd.grad(rate.sum(), z)
    assert (rate.diff() > 0).all()
    assert slope[-1] < slope[0] / 5
    risen = torch.cumulative_trapezoid(slope, z.detach())
    torch.testing.assert_close(risen, (rate[1:] - rate[0]).detach(), atol=2e-3, rtol=0)


def test_its_gradient_is_that_of_the_surrogate_and_none_goes_through_the_reset() -> None:
    current = torch.tensor([[0.3], [0.4]], requires_grad=True)
    neuron = AdaptiveLIF(1.0, 0.1, 0.9, Surrogate("arctan"))
    spikes, _ = neuron(current)
    assert spikes[:, 0].tolist() == [0.0, 1.0]
    spikes.sum().backward()
    half = torch.tensor(0.5)
    slopes = [float(Surrogate("arctan")(torch.tensor(u), half)) for u in (0.3, 0.7)]
    assert isinstance(current.grad, Tensor)
    torch.testing.assert_close(current.grad[:, 0], torch.tensor([slopes[0] + slopes[1], slopes[1]]))


def test_neither_chunks_of_time_nor_recomputation_change_a_spike_or_a_gradient() -> None:
    outcomes = []
    for memory in (2**29, 2**12):
        network = adaptive_snn()
        network.execution = Execution(memory)
        network.requires_grad_(True)
        logits = network(rand(3, 2, 6, 6, seed=5))
        logits.square().sum().backward()
        outcomes.append((logits.detach(), *(p.grad for p in network.parameters())))
    assert outcomes[0][0].abs().sum() > 0
    for whole, cut in zip(*outcomes, strict=True):
        torch.testing.assert_close(cut, whole, rtol=1e-5, atol=1e-6)


def test_a_stored_network_is_built_again_with_its_neurons() -> None:
    network, x = adaptive_snn(), rand(3, 2, 6, 6)
    again = build(describe(network), weights(network))
    assert torch.equal(again(x), network(x))


def test_a_network_that_starts_half_full_is_described_so_and_others_as_before() -> None:
    network = small_snn()
    assert all("initial" not in layer for layer in describe(network)["layers"])
    for neuron in network.neurons.values():
        neuron.initial = 0.5
    described = [layer for layer in describe(network)["layers"] if layer["type"] == "LIF"]
    assert [layer["initial"] for layer in described] == [0.5, 0.5]
    x = rand(3, 2, 6, 6)
    network.encoder = Encoder("direct")
    assert torch.equal(build(describe(network), weights(network))(x), network(x))


def test_a_threshold_that_would_grow_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="grows without end"):
        AdaptiveLIF(1.0, adaptation=0.2, decay=0.9)


def test_reconversion_puts_a_relu_in_its_place() -> None:
    x = rand(3, 2, 6, 6)
    torch.testing.assert_close(adaptive_snn().to_ann()(x), small_ann()(x))
