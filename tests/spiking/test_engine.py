"""Kernels, chunks and recomputation never change a spike, and the gradients stay those of plain autograd."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import audit.spiking.events as events
import audit.spiking.simulation as simulation
from audit.spiking.activity import Activity
from audit.spiking.budget import TimePlan
from audit.spiking.encoding import Coding
from audit.spiking.kernels import Kernels
from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import Reset
from audit.spiking.simulation import Execution
from tests.networks.teachers import dyadic, exact_snn, generator
from tests.oracles.simulation import run
from tests.spiking.conftest import Without

CODINGS, DENSITIES = st.sampled_from(get_args(Coding)), st.sampled_from([0.05, 0.3, 1.0])
RESETS, LEAKS = st.sampled_from(["soft", "hard"]), st.sampled_from([1.0, 0.7, 0.0])
CLASSES = torch.tensor([0, 2])


def images(coding: Coding, density: float = 1.0, seed: int = 0) -> Tensor:
    x = dyadic(2, 2, 8, 8, bits=6, density=density, seed=seed)
    return x if coding in ("rate", "direct") else x.abs()


@pytest.fixture(scope="module", autouse=True)
def every_convolution_by_events() -> object:
    """Small layers, too, and at any density: events only pay in wide layers at low density."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "LEAST_WIDTH", 0)
        patch.setattr(events, "FORWARD_DENSITY", 1.0)
        patch.setattr(events, "GRADIENT_DENSITY", 0.6)
        yield patch


def planned(patch: pytest.MonkeyPatch, steps: int, chunk: int, recompute: bool) -> None:
    patch.setattr(simulation, "plan_time", lambda *_: TimePlan.of(steps, chunk, recompute))


def calls(patch: pytest.MonkeyPatch, owner: object, name: str) -> list[int]:
    """Grows by one with every call of ``owner.name``, which does what it did."""
    made: list[int] = []
    original: Callable[..., object] = getattr(owner, name)

    def counted(*arguments: object) -> object:
        made.append(1)
        return original(*arguments)

    patch.setattr(owner, name, counted)
    return made


@settings(deadline=None, max_examples=40)
@given(
    CODINGS, LEAKS, st.booleans(), RESETS, st.integers(1, 9), st.integers(1, 9), st.booleans(), DENSITIES,
    st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_kernels_chunks_and_recomputation_never_change_a_spike(
    library: Kernels,
    without_kernels: Without,
    coding: Coding,
    leak: float,
    per_channel: bool,
    reset: Reset,
    steps: int,
    chunk: int,
    recompute: bool,
    density: float,
    mode: bool,
    seed: int,
) -> None:
    network = exact_snn(coding, steps, leak, reset, per_channel).train(mode)
    x, seen = images(coding, density, seed), []
    for c_code, size, again in ((True, chunk, recompute), (False, chunk, recompute), (False, steps, False)):
        activity = Activity()
        with nullcontext() if c_code else without_kernels(), pytest.MonkeyPatch.context() as patch:
            planned(patch, steps, size, again)
            by_events = calls(patch, Kernels, "convolve")
            logits = network.outputs_over_time(x, range(1, steps + 1), generator(seed), activity)
        assert bool(by_events) == c_code
        seen.append((logits.detach(), activity))
    for logits, activity in seen[:2]:
        expected, expected_activity = seen[2]
        assert torch.equal(logits, expected)
        assert activity.spikes == expected_activity.spikes
        assert activity.inputs.keys() == expected_activity.inputs.keys()
        assert all(torch.equal(found, expected_activity.inputs[name]) for name, found in activity.inputs.items())
        assert (activity.once, activity.sizes) == (expected_activity.once, expected_activity.sizes)


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(["rate", "unsigned-rate", "direct"]), LEAKS, RESETS, st.integers(1, 9), st.booleans(), DENSITIES,
    st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_the_gradients_of_weights_and_images_are_those_of_plain_autograd(
    library: Kernels,
    coding: Coding,
    leak: float,
    reset: Reset,
    chunk: int,
    recompute: bool,
    density: float,
    mode: bool,
    seed: int,
) -> None:
    network = exact_snn(coding, 6, leak, reset, per_channel=True).train(mode)
    x = images(coding, density, seed).requires_grad_()
    inputs = [x, *network.parameters()]
    expected = run(network, network.encoder(x, 6, generator(seed))).sum(0)
    with pytest.MonkeyPatch.context() as patch:
        planned(patch, 6, chunk, recompute)
        by_events = calls(patch, events._EventConvolution, "apply")
        logits = network(x, generator(seed))
        assert torch.equal(logits, expected)
        found = torch.autograd.grad(nn.functional.cross_entropy(logits / 16, CLASSES), inputs)
        assert by_events
    for ours, theirs in zip(
        found, torch.autograd.grad(nn.functional.cross_entropy(expected / 16, CLASSES), inputs), strict=True
    ):
        close(ours, theirs)


def close(ours: Tensor, theirs: Tensor, relative: float = 1e-5) -> None:
    torch.testing.assert_close(ours, theirs, rtol=relative, atol=relative * float(theirs.abs().max()))


def gradients(network: SpikingNetwork, x: Tensor, inputs: Sequence[Tensor], chunk: int, again: bool) -> list[Tensor]:
    with pytest.MonkeyPatch.context() as patch:
        planned(patch, network.time_steps, chunk, again)
        logits = network(x, generator(3))
        return list(torch.autograd.grad(nn.functional.cross_entropy(logits / 16, CLASSES), inputs))


@pytest.mark.parametrize("coding", ["rate", "direct"])
def test_the_weight_gradient_comes_from_events_where_they_are_few(
    library: Kernels, coding: Coding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "GRADIENT_DENSITY", 1.0)
    network, made = exact_snn(coding), calls(monkeypatch, Kernels, "weight_gradient")
    expected = gradients(network, images(coding), list(network.parameters()), 7, False)
    assert made
    monkeypatch.setattr(events, "GRADIENT_DENSITY", -1.0)
    taken = len(made)
    dense = gradients(network, images(coding), list(network.parameters()), 7, False)
    for ours, theirs in zip(dense, expected, strict=True):
        close(ours, theirs)
    assert len(made) == taken


@pytest.mark.parametrize("coding", ["rate", "direct"])
def test_dropout_has_the_same_gradient_when_it_is_computed_again(coding: Coding) -> None:
    network, x = exact_snn(coding, dropout=0.5).train(), images(coding).requires_grad_()
    inputs = [x, *network.parameters()]
    plain = gradients(network, x, inputs, 7, False)
    for ours, theirs in zip(gradients(network, x, inputs, 2, True), plain, strict=True):
        close(ours, theirs)
    undropped = gradients(network.eval(), x, inputs, 7, False)
    assert not torch.allclose(undropped[0], plain[0]), "the test says nothing about a dropout that is off"


@pytest.mark.parametrize("recompute", [True, False])
def test_frozen_weights_leave_the_gradient_of_the_image_as_it_is(recompute: bool) -> None:
    network, x = exact_snn(), images("rate").requires_grad_()
    (expected,) = gradients(network, x, [x], 3, recompute)
    assert expected.count_nonzero() > 0
    (frozen,) = gradients(network.requires_grad_(False), x, [x], 3, recompute)
    assert torch.equal(frozen, expected)


@pytest.mark.parametrize("recompute", [True, False])
def test_what_is_switched_before_the_backward_pass_does_not_reach_it(
    recompute: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(monkeypatch, 7, 3, recompute)
    x = images("rate")

    def gradient(switch: bool) -> Tensor:
        network = exact_snn(dropout=0.5).train()
        logits = network.outputs_over_time(x, [7], generator(3))[-1]
        if switch:
            network.eval()
            network.execution = Execution(precision="bfloat16")
        return torch.autograd.grad(nn.functional.cross_entropy(logits, CLASSES), list(network.parameters()))[0]

    assert torch.equal(gradient(True), gradient(False))


def test_a_second_computation_with_other_weights_or_thresholds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    planned(monkeypatch, 7, 3, True)
    network, x = exact_snn(), images("rate")
    logits = network.outputs_over_time(x, [7], generator(3))[-1]
    next(iter(network.neurons.values())).threshold.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        logits.sum().backward()
    given = {name: weight.detach().clone().requires_grad_() for name, weight in network.named_parameters()}
    logits = torch.func.functional_call(network, given, (x, generator(3), 7))
    with pytest.raises(RuntimeError, match="are not those of the forward pass"):
        logits.sum().backward()


def test_a_network_without_thresholds_does_not_run_in_silence() -> None:
    network = exact_snn()
    list(network.neurons.values())[1].threshold.fill_(float("nan"))
    with pytest.raises(ValueError, match="has no threshold yet"):
        network(images("rate"), generator(3))


@pytest.mark.parametrize("recompute", [True, False])
def test_a_retained_graph_gives_the_same_gradient_twice(
    recompute: bool, monkeypatch: pytest.MonkeyPatch, library: object
) -> None:
    planned(monkeypatch, 7, 3, recompute)
    network, x = exact_snn(), images("rate").requires_grad_()
    inputs = [x, *network.parameters()]
    logits = network.outputs_over_time(x, [7], generator(3))[-1]
    loss = nn.functional.cross_entropy(logits, CLASSES)
    first = torch.autograd.grad(loss, inputs, retain_graph=True)
    for again, once in zip(torch.autograd.grad(loss, inputs), first, strict=True):
        assert torch.equal(again, once)
    assert first[0].count_nonzero() > 0


@pytest.mark.parametrize("coding", ["rate", "direct"])
@pytest.mark.parametrize("recompute", [True, False])
def test_some_weights_can_be_frozen_and_some_trained(coding: Coding, recompute: bool) -> None:
    network = exact_snn(coding)
    names = [name for name, _ in network.named_parameters()]
    expected = dict(zip(names, gradients(network, images(coding), list(network.parameters()), 3, False), strict=True))
    for trained in names:
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name == trained)
        (found,) = gradients(network, images(coding), [network.get_parameter(trained)], 3, recompute)
        close(found, expected[trained])


@pytest.mark.parametrize("recompute", [True, False])
def test_under_direct_coding_the_first_layer_is_computed_once(recompute: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "FORWARD_DENSITY", -1.0)  # a hook sees dense calls only
    planned(monkeypatch, 7, 2, recompute)
    network, activity, passes = exact_snn("direct"), Activity(), []
    network.layers.get_submodule("conv1").register_forward_hook(lambda *_: passes.append("conv1"))
    network.layers.get_submodule("conv2").register_forward_hook(lambda *_: passes.append("conv2"))
    logits = network.outputs_over_time(images("direct"), [7], None, activity)
    logits.sum().backward()
    assert passes.count("conv1") == 1
    assert passes.count("conv2") == (8 if recompute else 4)
    assert activity.once == {"conv1"}
    assert torch.equal(activity.inputs["conv1"], (images("direct") != 0).sum((0, 1)))


@pytest.mark.parametrize("coding", ["rate", "direct"])
@pytest.mark.parametrize("recompute", [True, False])
def test_a_network_in_double_precision_is_the_plain_one(coding: Coding, recompute: bool) -> None:
    network, x = exact_snn(coding, leak=0.9).double(), images(coding).double().requires_grad_()
    inputs = [x, *network.parameters()]
    expected = run(network, network.encoder(x, 7, generator(3))).sum(0)
    plain = torch.autograd.grad(nn.functional.cross_entropy(expected / 16, CLASSES), inputs)
    for ours, theirs in zip(gradients(network, x, inputs, 3, recompute), plain, strict=True):
        assert ours.dtype == torch.float64
        close(ours, theirs, 1e-12)


def test_bfloat16_is_close_and_never_the_default() -> None:
    network, x = exact_snn("direct", 16), images("direct").requires_grad_()
    assert network.execution == Execution() == Execution(precision="float32")
    low: list[bool] = []
    network.layers.get_submodule("fc").register_forward_hook(lambda *_: low.append(torch.is_autocast_enabled("cpu")))
    expected = network(x)
    network.execution = Execution(precision="bfloat16")
    logits = network(x)
    assert low == [False] * low.count(False) + [True] * low.count(True)
    assert True in low
    assert False in low
    assert logits.dtype == torch.float32
    assert float(nn.functional.cosine_similarity(logits.flatten(), expected.flatten(), 0)) > 0.95
    found = torch.autograd.grad(logits.square().sum(), [x, *network.parameters()])
    assert all(bool(gradient.isfinite().all()) and gradient.count_nonzero() > 0 for gradient in found)
