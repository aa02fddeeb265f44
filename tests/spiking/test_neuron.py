"""The neuron is the recurrence of Eq. 1, forwards and backwards, however time is cut into chunks."""

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from audit.spiking.neuron import LIF, _backward, _compiled, _forward
from audit.spiking.surrogate import Surrogate
from tests.networks.teachers import rand
from tests.oracles.neuron import lif_by_autograd, lif_by_hand

Reset = Literal["soft", "hard"]
RESETS = st.sampled_from(["soft", "hard"])
LEAKS = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.0, 1.0, width=32))
THRESHOLDS = st.floats(0.125, 4.0, width=32)
untimed = settings(deadline=None, max_examples=60)


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 1.5 + 0.3


@untimed
@given(LEAKS, THRESHOLDS, RESETS, st.integers(1, 12), st.integers(0, 10**6))
def test_spikes_and_potential_are_those_of_a_loop_over_single_numbers(
    leak: float, threshold: float, reset: Reset, steps: int, seed: int
) -> None:
    current, start = drawn(steps, 2, 3, seed=seed), drawn(2, 3, seed=seed + 1)
    spikes, potential = LIF(threshold, leak, reset)(current, start)
    for b in range(2):
        for c in range(3):
            expected = lif_by_hand(current[:, b, c].tolist(), threshold, leak, reset, float(start[b, c]))
            assert (spikes[:, b, c].tolist(), float(potential[b, c])) == expected


def test_a_network_starts_without_potential() -> None:
    current = torch.full((5, 1, 1), 0.4)
    spikes, potential = LIF(1.0, 0.9)(current)
    assert (spikes.flatten().tolist(), float(potential)) == lif_by_hand([0.4] * 5, 1.0, 0.9, "soft")


def test_a_potential_exactly_at_the_threshold_does_not_fire() -> None:
    spikes, potential = LIF(1.0)(torch.tensor([[0.5], [0.5], [0.25]]))
    assert spikes.flatten().tolist() == [0, 0, 1]
    assert float(potential) == 0.25


def test_a_soft_reset_keeps_the_excess_and_a_hard_one_drops_it() -> None:
    current = torch.tensor([[2.75]])
    assert float(LIF(1.0, reset="soft")(current)[1]) == 1.75
    assert float(LIF(1.0, reset="hard")(current)[1]) == 0.0


def test_a_negative_potential_is_kept() -> None:
    assert float(LIF(1.0)(torch.tensor([[-3.0], [1.5]]))[1]) == -1.5


@untimed
@given(RESETS, LEAKS)
def test_every_channel_has_its_own_threshold(reset: Reset, leak: float) -> None:
    current, thresholds = drawn(9, 2, 3, 2, 2, seed=5), [0.2, 0.9, 2.5]
    spikes, potential = LIF(torch.tensor(thresholds).view(3, 1, 1), leak, reset)(current)
    for channel, threshold in enumerate(thresholds):
        alone = LIF(threshold, leak, reset)(current[:, :, channel])
        assert torch.equal(spikes[:, :, channel], alone[0])
        assert torch.equal(potential[:, channel], alone[1])


def test_thresholds_need_not_lie_side_by_side_in_memory() -> None:
    current, spread = drawn(9, 2, 4, 3, 3, seed=5), torch.tensor([0.2, 9.0, 0.5, 9.0, 0.9, 9.0, 2.0, 9.0])[::2]
    for thresholds in (spread.view(4, 1, 1), torch.tensor(0.3).expand(4, 1, 1)):
        neuron, plain = LIF(), LIF(thresholds.contiguous())
        neuron.threshold = thresholds
        assert torch.equal(neuron(current)[0], plain(current)[0])


@pytest.mark.parametrize("shape", [(3, 5), (3, 2, 2, 2)])
def test_a_threshold_per_channel_is_per_channel_whatever_the_number_of_dimensions_or_is_refused(
    shape: tuple[int, ...],
) -> None:
    current, thresholds = drawn(9, 2, *shape, seed=5), [0.2, 0.9, 2.5]
    try:
        spikes, _ = LIF(torch.tensor(thresholds).view(3, *(1,) * (len(shape) - 1)))(current)
    except ValueError:
        return
    for channel, threshold in enumerate(thresholds):
        assert torch.equal(spikes[:, :, channel], LIF(threshold)(current[:, :, channel])[0])


@untimed
@given(LEAKS, THRESHOLDS, RESETS, st.integers(1, 12), st.integers(0, 10**6))
def test_the_backward_pass_is_autograd_of_the_recurrence_without_the_reset(
    leak: float, threshold: float, reset: Reset, steps: int, seed: int
) -> None:
    # Double precision, so that nothing but the formulas can differ; the spikes' and the state's gradients both count.
    neuron = LIF(threshold, leak, reset).double()
    current, start = drawn(steps, 2, 3, seed=seed).double(), drawn(2, 3, seed=seed + 1).double()
    out, last = drawn(steps, 2, 3, seed=seed + 2).double(), drawn(2, 3, seed=seed + 3).double()
    gradients = []
    for forward in (neuron, lambda i, u: lif_by_autograd(i, u, neuron.threshold, leak, reset)):
        i, u = current.clone().requires_grad_(), start.clone().requires_grad_()
        spikes, potential = forward(i, u)
        gradients.append(torch.autograd.grad((spikes * out).sum() + (potential * last).sum(), (i, u)))
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@untimed
@given(LEAKS, THRESHOLDS, RESETS, st.integers(2, 13), st.integers(1, 13), st.integers(0, 10**6))
def test_chunks_never_change_a_spike_or_a_gradient(
    leak: float, threshold: float, reset: Reset, steps: int, chunk: int, seed: int
) -> None:
    neuron, values, out = LIF(threshold, leak, reset), drawn(steps, 2, 3, seed=seed), drawn(steps, 2, 3, seed=seed + 1)
    whole, cut = values.clone().requires_grad_(), values.clone().requires_grad_()
    expected, end = neuron(whole)
    pieces: list[Tensor] = []
    state = torch.zeros_like(end)
    for piece in cut.split(chunk):
        spikes, state = neuron(piece, state)
        pieces.append(spikes)
    assert torch.equal(torch.cat(pieces), expected)
    assert torch.equal(state, end)
    (expected * out).sum().backward()
    (torch.cat(pieces) * out).sum().backward()
    torch.testing.assert_close(cut.grad, whole.grad, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_evaluation_mode_keeps_the_surrogate_gradient(reset: Reset) -> None:
    gradients = []
    for mode in (True, False):
        current = drawn(6, 2, 3, seed=1).requires_grad_()
        LIF(0.8, 0.9, reset).train(mode)(current)[0].sum().backward()
        assert current.grad is not None
        gradients.append(current.grad)
    assert gradients[0].count_nonzero() > 0
    assert torch.equal(*gradients)


def test_one_step_has_the_slope_of_its_surrogate() -> None:
    surrogate = Surrogate("arctan", width=2.0, gain=0.3, per_threshold=True)
    current = torch.linspace(-2, 4, 31)[None].requires_grad_()
    LIF(1.5, surrogate=surrogate)(current)[0].sum().backward()
    assert current.grad is not None
    torch.testing.assert_close(current.grad, surrogate(current.detach(), torch.tensor(1.5)))


def test_arguments_are_not_written_to() -> None:
    current, start = drawn(4, 2, 3, seed=0), drawn(2, 3, seed=1)
    copies = current.clone(), start.clone()
    LIF(0.5, 0.5)(current, start)
    assert torch.equal(current, copies[0])
    assert torch.equal(start, copies[1])


def test_the_threshold_is_state_and_is_not_trained() -> None:
    neuron = LIF(1.0)
    assert list(neuron.parameters()) == []
    assert list(neuron.state_dict()) == ["threshold"]


@pytest.mark.parametrize("leak", [-0.1, 1.1, float("nan")])
def test_a_leak_outside_0_1_is_refused(leak: float) -> None:
    with pytest.raises(ValueError, match=r"leak is a factor in \[0, 1\]"):
        LIF(1.0, leak)


def test_the_compiled_neuron_of_a_gpu_is_the_plain_one() -> None:
    """Compiled for the CPU here: the same functions, by the same compiler."""
    pytest.importorskip("triton")
    forward, backward = _compiled(_forward), _compiled(_backward)
    for shape in ((3, 5, 1), (3, 7, 1), (2, 9, 4)):
        current, potential, threshold = (
            rand(*shape, seed=1),
            rand(*shape[1:], seed=2),
            rand(shape[2], seed=3).abs() + 0.2,
        )
        expected = _forward(current, shape[0], potential, threshold, 0.9, "soft", True)
        found = forward(current, shape[0], potential, threshold, 0.9, "soft", True)
        torch.testing.assert_close(found, expected)
        kept = expected[2]
        assert kept is not None
        arguments = kept, rand(*shape, seed=4), rand(*shape[1:], seed=5), threshold, 0.9, "soft", Surrogate()
        torch.testing.assert_close(backward(*arguments), _backward(*arguments))
