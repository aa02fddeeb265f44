"""Other libraries' neurons and networks are ours with the settings of `tests.oracles.peers`; and where they are not."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from audit.spiking.encoding import Coding, Encoder
from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF
from audit.spiking.surrogate import Surrogate
from tests.oracles.peers import (
    SPIKINGJELLY_SHAPES,
    SnnTorchReset,
    snntorch_lif,
    spikingjelly,
    spikingjelly_lif,
    spikingjelly_network,
    spikingjelly_node,
)

Reset = Literal["soft", "hard"]
Forward = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

# A sum of dyadic numbers is exact in any order. The odd bit keeps every potential off the threshold.
OFF_GRID = 2**-12
THRESHOLDS = [0.5 + OFF_GRID, 1 + OFF_GRID, 2.5 + OFF_GRID]
PER_THRESHOLD = Surrogate(per_threshold=True)


def dyadic(*shape: int, low: int, high: int, seed: int, unit: float = 2**-5) -> Tensor:
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed)) * unit


def results(forward: Forward, current: Tensor, start: Tensor, seed: int = 9) -> tuple[Tensor, ...]:
    """Spikes, last potential, and the gradients of a loss in both with respect to the current and the first potential.

    The loss weighs every spike and every potential differently.
    """
    i, u = current.clone().requires_grad_(), start.clone().requires_grad_()
    spikes, potential = forward(i, u)
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(x.shape, generator=generator).to(x.dtype) for x in (spikes, potential)]
    gradients = torch.autograd.grad((spikes * weights[0]).sum() + (potential * weights[1]).sum(), (i, u))
    return spikes.detach(), potential.detach(), *gradients


def assert_the_same(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> None:
    """Spikes and potentials to the last bit, gradients up to the rounding of 1 / theta."""
    assert 0.1 < ours[0].mean() < 0.9, "the test says nothing about neurons that always or never fire"
    assert ours[2].count_nonzero() > ours[2].numel() / 3, "the test says nothing about a gradient that vanishes"
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])
    for our, their in zip(ours[2:], theirs[2:], strict=True):
        torch.testing.assert_close(our, their)


@pytest.mark.parametrize("reset", ["soft", "hard"])
@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize(
    ("leak", "dtype"), [(1.0, torch.float32), (0.5, torch.float32), (0.75, torch.float64), (1.0, torch.float64)]
)
def test_spikingjellys_neuron_is_ours_with_the_slope_divided_by_the_threshold(
    leak: float, dtype: torch.dtype, threshold: float, reset: Reset
) -> None:
    """``IFNode``, and ``LIFNode(decay_input=False)`` at tau 2 and 4, with ``PiecewiseQuadratic(alpha=1 / theta)``.

    Leak 0.75 needs two bits more per time-step: it is exact in double precision only.
    """
    current = (dyadic(12, 4, 25, low=-20, high=52, seed=1) * round(threshold * 2) / 2).to(dtype)
    start = dyadic(4, 25, low=-32, high=48, seed=2).to(dtype)
    node = spikingjelly_node(threshold, leak, reset)
    neuron = LIF(threshold, leak, reset, PER_THRESHOLD).to(dtype)
    assert_the_same(results(neuron, current, start), results(partial(spikingjelly_lif, node), current, start))


def test_equation_5_is_spikingjellys_gradient_times_the_threshold_per_layer() -> None:
    """Of the spikes: the way through time has no slope in it, as no gradient flows through the reset."""
    current, start = dyadic(12, 100, low=-20, high=104, seed=3), torch.zeros(100)
    for threshold in THRESHOLDS:
        node = spikingjelly_node(threshold, 1.0, "soft")
        i, j = current.clone().requires_grad_(), current.clone().requires_grad_()
        LIF(threshold)(i, start)[0].sum().backward()
        spikingjelly_lif(node, j, start)[0].sum().backward()
        assert i.grad is not None
        assert j.grad is not None
        assert i.grad.count_nonzero() > 0
        torch.testing.assert_close(i.grad, j.grad * threshold)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("shape", SPIKINGJELLY_SHAPES)
def test_every_surrogate_is_one_of_spikingjellys(shape: str, alpha: float) -> None:
    theirs, ours = SPIKINGJELLY_SHAPES[shape]
    # The step keeps off the rectangle's edges, where one library has < and the other <=.
    potential = torch.arange(-4, 6, 0.0371)
    for threshold in THRESHOLDS:
        function = getattr(spikingjelly("surrogate"), theirs)(alpha=alpha / threshold)
        above = (potential - threshold).requires_grad_()
        function(above).sum().backward()
        assert above.grad is not None
        torch.testing.assert_close(ours(alpha)(potential, torch.tensor(threshold)), above.grad, rtol=1e-5, atol=1e-6)


def test_at_the_threshold_itself_spikingjelly_fires_and_we_and_snntorch_do_not() -> None:
    current, start = torch.tensor([[0.5], [0.5], [0.5]]), torch.zeros(1)
    ours, potential = LIF(1.0)(current)
    theirs, their_potential = spikingjelly_lif(spikingjelly_node(1.0, 1.0, "soft"), current, start)
    assert ours.flatten().tolist() == [0, 0, 1]
    assert theirs.flatten().tolist() == [0, 1, 0]
    assert float(potential) == float(their_potential) == 0.5
    assert snntorch_lif(current, start, 1.0, 1.0, "subtract")[0].flatten().tolist() == [0, 0, 1]


@pytest.mark.parametrize("name", ["ComplementaryLIFNode", "OTTTLIFNode", "SLTTLIFNode"])
def test_eval_drops_the_surrogate_gradient_of_some_of_spikingjellys_neurons_and_never_ours(name: str) -> None:
    """The trap: the same spikes, no gradient, so that every white-box attack on the deployed model fails.

    In SpikingJelly 2.0.0 these three do so; ``IFNode`` and ``LIFNode`` have their gradient in both modes (below).
    """
    current = dyadic(6, 8, low=10, high=60, seed=4).requires_grad_()
    spikes, gradients = {}, {}
    for training in (True, False):
        node = getattr(spikingjelly("neuron"), name)().train(training)
        # OTTTLIFNode returns its trace as well in train().
        stepped = [node(i) for i in current]
        spikes[training] = torch.stack([out if isinstance(out, Tensor) else out[0] for out in stepped])
        (gradients[training],) = torch.autograd.grad(LIF(1.0).train(training)(current)[0].sum(), current)
    assert torch.equal(spikes[True], spikes[False])
    assert spikes[True].requires_grad
    assert not spikes[False].requires_grad
    assert gradients[True].count_nonzero() > 0
    assert torch.equal(gradients[True], gradients[False])


@pytest.mark.parametrize("leak", [1.0, 0.5])
def test_eval_and_train_have_the_gradient_of_spikingjellys_plain_neurons_as_of_ours(leak: float) -> None:
    current, start = dyadic(8, 60, low=-20, high=52, seed=5), torch.zeros(60)
    for training in (True, False):
        node = spikingjelly_node(THRESHOLDS[1], leak, "soft").train(training)
        neuron = LIF(THRESHOLDS[1], leak, "soft", PER_THRESHOLD).train(training)
        theirs = results(partial(spikingjelly_lif, node), current, start)
        assert_the_same(results(neuron, current, start), theirs)


@pytest.mark.parametrize(
    ("reset", "theirs", "leak"),
    [("soft", "subtract", 1.0), ("hard", "zero", 1.0), ("hard", "zero", 0.5), ("hard", "zero", 0.9)],
)
@pytest.mark.parametrize("threshold", [0.5, 1.0, 2.5])
def test_snntorchs_delayed_reset_is_ours_where_nothing_leaks_or_nothing_is_left(
    reset: Reset, theirs: SnnTorchReset, leak: float, threshold: float
) -> None:
    """Potentials beyond 2 theta and exactly at theta are among them: both libraries fire at u > theta only."""
    current = dyadic(12, 100, low=-20, high=52, seed=6) * threshold
    start = dyadic(100, low=-32, high=32, seed=13) * threshold
    peer = results(lambda i, u: snntorch_lif(i, u, threshold, leak, theirs), current, start)
    assert_the_same(results(LIF(threshold, leak, reset), current, start), peer)


@pytest.mark.parametrize("leak", [0.5, 0.9, 1.0])
def test_snntorchs_immediate_reset_is_ours_at_every_leak_up_to_twice_the_threshold(leak: float) -> None:
    current = dyadic(50, 100, low=0, high=32, seed=7)
    spikes, potential = LIF(1.0, leak)(current)
    theirs, their_potential = snntorch_lif(current, torch.zeros(100), 1.0, leak, "subtract at once")
    assert torch.equal(spikes, theirs)
    assert torch.equal(potential, their_potential)
    # Beyond it a potential of 3 loses theta once and never fires again, where ours fires twice.
    burst = torch.tensor([[3.0], [0.0], [0.0], [0.0]])
    assert LIF(1.0)(burst)[0].flatten().tolist() == [1, 1, 0, 0]
    assert snntorch_lif(burst, torch.zeros(1), 1.0, 1.0, "subtract at once")[0].flatten().tolist() == [1, 0, 0, 0]


def test_snntorchs_delayed_soft_reset_does_not_leak_the_threshold_so_that_spikes_differ() -> None:
    """u <- leak * u - theta, ours u <- leak * (u - theta): theirs is lower by (1 - leak) theta after every spike.

    Measured at leak 0.9, theta 1, currents uniform in [0, 1], 100 time-steps of 1,000 neurons: 30.6 % of all places
    differ; we fire in 44.5 % of them, snnTorch in 40.6 %.
    """
    current = torch.rand(100, 1000, generator=torch.Generator().manual_seed(8))
    ours, _ = LIF(1.0, 0.9)(current)
    theirs, _ = snntorch_lif(current, torch.zeros(1000), 1.0, 0.9, "subtract")
    differing, our_rate, their_rate = (x.double().mean().item() for x in (ours != theirs, ours, theirs))
    assert differing > 0
    assert (differing, our_rate, their_rate) == pytest.approx((0.306, 0.445, 0.406), abs=0.001)


@pytest.mark.parametrize("coding", ["direct", "rate"])
@pytest.mark.parametrize(("leak", "reset"), [(1.0, "soft"), (0.5, "soft"), (0.5, "hard")])
def test_a_whole_network_in_spikingjelly_has_our_logits_and_our_gradients(
    coding: Coding, leak: float, reset: Reset
) -> None:
    """Two layers of neurons: their thresholds' factors multiply on the way back to the convolution."""
    network = tiny_network(coding, leak, reset)
    x = dyadic(3, 2, 4, 4, low=-32, high=32, seed=10)
    with torch.no_grad():
        train = network.encoder(x, network.time_steps, torch.Generator().manual_seed(11))
    x.requires_grad_()
    train.requires_grad_()
    ours, theirs = network(x, torch.Generator().manual_seed(11)), spikingjelly_network(network, train)
    assert torch.equal(ours, theirs)
    assert ours.unique().numel() > 6, "the test says nothing about a network that is silent"
    weights = list(network.layers.parameters())
    coefficients = torch.randn(ours.shape, generator=torch.Generator().manual_seed(12))
    our, their = (
        torch.autograd.grad((y * coefficients).sum(), (*weights, inputs)) for y, inputs in ((ours, x), (theirs, train))
    )
    # Both codings hand every time-step's gradient to the image.
    for one, other in zip(our, (*their[:-1], their[-1].sum(0)), strict=True):
        assert one.count_nonzero() > one.numel() / 2
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def tiny_network(coding: Coding, leak: float, reset: Reset) -> SpikingNetwork:
    """Convolution, pool, two linear layers; weights in multiples of 1/8, biases of 1/16."""
    layers = OrderedDict(
        conv=nn.Conv2d(2, 5, 3, padding=1),
        fire=LIF(0.75 + OFF_GRID, leak, reset, PER_THRESHOLD),
        pool=nn.AvgPool2d(2),
        flat=nn.Flatten(),
        hidden=nn.Linear(20, 12),
        fire_2=LIF(0.5 + OFF_GRID, leak, reset, PER_THRESHOLD),
        out=nn.Linear(12, 4),
    )
    with torch.no_grad():
        for seed, layer in enumerate(layers.values()):
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.copy_(dyadic(*layer.weight.shape, low=-4, high=5, seed=seed, unit=2**-3))
                assert layer.bias is not None
                layer.bias.copy_(dyadic(*layer.bias.shape, low=-2, high=4, seed=seed + 20, unit=2**-4))
    return SpikingNetwork(nn.Sequential(layers), Encoder(coding), 8)
