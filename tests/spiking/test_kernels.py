"""Every kernel gives what torch gives, to the last bit where the sums are exact or their order is set."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import audit.spiking.kernels as module
from audit.spiking.kernels import Events, Kernels, Packed, geometry_of
from audit.spiking.memory import Pool
from audit.spiking.neuron import Reset, _backward, _forward
from audit.spiking.surrogate import Shape, Surrogate
from tests.networks.teachers import dyadic, generator, rand

untimed = settings(deadline=None, max_examples=40)
SEEDS = st.integers(0, 10**6)
DENSITIES = st.sampled_from([0.0, 0.03, 0.2, 0.5, 1.0])
KINDS = st.sampled_from(["binary", "signed", "graded"])
SIDES = st.integers(1, 9)


def images(kind: str, density: float, *shape: int, seed: int) -> Tensor:
    """[N, C, H, W] in channels-last order."""
    x = dyadic(*shape, bits=3, density=density, seed=seed)
    x = {"binary": (x != 0).float(), "signed": x.sign(), "graded": x}[kind]
    return x.contiguous(memory_format=torch.channels_last)


def listed(library: Kernels, x: Tensor) -> Events:
    return library.events(x, *library.count(x))


@untimed
@given(KINDS, DENSITIES, st.integers(1, 70), SIDES, SIDES, SEEDS)
def test_events_are_the_non_zero_values_in_memory_order(
    library: Kernels, kind: str, density: float, channels: int, height: int, width: int, seed: int
) -> None:
    x = images(kind, density, 2, channels, height, width, seed=seed)
    counts, total, binary = library.count(x)
    assert torch.equal(counts, (x != 0).sum(1, dtype=torch.int32))
    assert total == int(x.count_nonzero())
    assert binary == bool(((x == 0) | (x == 1)).all())
    events = library.events(x, counts, total, binary)
    flat = x.permute(0, 2, 3, 1).reshape(-1, channels)
    pixel, channel = flat.nonzero(as_tuple=True)
    assert torch.equal(events.first[:-1].diff().int(), counts.flatten()[:-1])
    assert (int(events.first[0]), int(events.first[-1])) == (0, total)
    assert torch.equal(events.index.long(), pixel % width * channels + channel)
    assert (events.value is None) == binary
    assert events.value is None or torch.equal(events.value, flat[pixel, channel])
    assert events.density == pytest.approx(total / x.numel())


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Kernel, stride, padding and a map that the kernel fits into."""
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride, padding = draw(st.tuples(st.integers(1, 3), st.integers(1, 3))), draw(st.tuples(*[st.integers(0, 4)] * 2))
    size = [draw(st.integers(max(1, kernel[d] - 2 * padding[d]), 9)) for d in (0, 1)]
    return kernel, stride, padding, (size[0], size[1])


@untimed
@given(
    KINDS, DENSITIES, convolutions(), st.integers(1, 20),
    st.sampled_from([1, 7, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 100, 129]), st.booleans(), SEEDS,
)  # fmt: skip
def test_a_convolution_of_events_is_the_dense_one_to_the_last_bit(
    library: Kernels,
    kind: str,
    density: float,
    shape: tuple[tuple[int, int], ...],
    channels: int,
    outputs: int,
    biased: bool,
    seed: int,
) -> None:
    kernel, stride, padding, size = shape
    x = images(kind, density, 2, channels, *size, seed=seed)
    weight, bias = dyadic(outputs, channels, *kernel, seed=seed + 1), dyadic(outputs, seed=seed + 2) if biased else None
    expected = F.conv2d(x, weight, bias, stride, padding)
    geometry = geometry_of(x.shape, outputs, kernel, stride, padding)
    for many_events in (0, 10**9):  # row after row, and all rows at once
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "MANY_EVENTS", many_events)
            found = library.convolve(listed(library, x), Packed.of(weight, bias), geometry, Pool())
        assert torch.equal(found, expected)


def test_many_events_are_walked_over_by_rows_and_give_the_same_bits_even_where_sums_are_rounded(
    library: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, weight = (rand(2, 40, 9, 9) > 0).float().contiguous(memory_format=torch.channels_last), rand(70, 40, 3, 3)
    assert float(x.mean()) * 40 * 3 > module.MANY_EVENTS
    arguments = listed(library, x), Packed.of(weight, None), geometry_of(x.shape, 70, (3, 3), (1, 1), (1, 1)), Pool()
    by_rows = library.convolve(*arguments)
    torch.testing.assert_close(by_rows, F.conv2d(x, weight, padding=1), rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(module, "MANY_EVENTS", 10**9)
    assert torch.equal(library.convolve(*arguments), by_rows)


@untimed
@given(
    KINDS, DENSITIES, st.tuples(*[st.integers(0, 2)] * 2), st.integers(1, 70), st.sampled_from([1, 15, 16, 33, 64, 70]),
    st.tuples(*[st.integers(3, 8)] * 2), SEEDS,
)  # fmt: skip
def test_the_weight_gradient_from_events_is_torchs_to_the_last_bit(
    library: Kernels,
    kind: str,
    density: float,
    padding: tuple[int, int],
    channels: int,
    outputs: int,
    size: tuple[int, int],
    seed: int,
) -> None:
    x = images(kind, density, 3, channels, *size, seed=seed)
    weight = torch.zeros(outputs, channels, 3, 3, requires_grad=True)
    out = F.conv2d(x, weight, padding=padding)
    grad = dyadic(*out.shape, seed=seed + 1).contiguous(memory_format=torch.channels_last)
    (expected,) = torch.autograd.grad(out, weight, grad)
    geometry = geometry_of(x.shape, outputs, (3, 3), (1, 1), padding)
    assert torch.equal(library.weight_gradient(listed(library, x), grad, geometry), expected)


RESETS, LEAKS = st.sampled_from(["soft", "hard"]), st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))
NEURONS = st.sampled_from([(1, 1), (5000, 1), (3, 7), (40, 130), (2, 2500)])


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed)) * 1.5 + 0.3


@untimed
@given(NEURONS, st.integers(1, 7), st.booleans(), LEAKS, RESETS, st.booleans(), SEEDS)
def test_the_neuron_in_c_is_the_neuron_in_torch_to_the_last_bit(
    library: Kernels, size: tuple[int, int], steps: int, static: bool, leak: float, reset: Reset, keep: bool, seed: int
) -> None:
    current, u = drawn(1 if static else steps, *size, seed=seed), drawn(*size, seed=seed + 1)
    threshold = drawn(size[1], seed=seed + 2).abs() + 0.1
    spikes, after, kept = _forward(current, steps, u, threshold, leak, reset, keep)
    potential = u.clone()
    found, found_kept, count = library.fire(current, steps, potential, threshold, leak, reset == "hard", keep, Pool())
    assert torch.equal(found, spikes)
    assert torch.equal(potential, after)
    assert count == int(spikes.count_nonzero())
    assert (found_kept is None) == (not keep)
    assert kept is None or found_kept is None or torch.equal(found_kept, kept)


@untimed
@given(
    NEURONS, st.integers(1, 6), LEAKS, RESETS, st.sampled_from(["triangle", "rectangle", "sigmoid", "arctan"]),
    st.sampled_from([1.0, 0.3, 2.7]), st.sampled_from([1.0, 0.3]), st.booleans(), SEEDS,
)  # fmt: skip
def test_its_gradient_in_c_is_that_in_torch(
    library: Kernels,
    size: tuple[int, int],
    steps: int,
    leak: float,
    reset: Reset,
    shape: Shape,
    width: float,
    gain: float,
    per_threshold: bool,
    seed: int,
) -> None:
    surrogate = Surrogate(shape, width, gain, per_threshold)
    kept, grad = drawn(steps, *size, seed=seed), drawn(steps, *size, seed=seed + 1)
    last, threshold = drawn(*size, seed=seed + 2), drawn(size[1], seed=seed + 3).abs() + 0.1
    before = last.clone()
    expected = _backward(kept, grad, last, threshold, leak, reset, surrogate)
    for result in (torch.empty_like(kept), kept):  # or over the potentials that it reads
        carried = library.fire_backward(kept, grad, last, threshold, leak, reset == "hard", surrogate, result)
        assert torch.equal(last, before)
        _assert_gradients_equal((result, carried), expected, shape)


def _assert_gradients_equal(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], shape: Shape) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        if shape in ("triangle", "rectangle"):
            assert torch.equal(ours, theirs)
        else:  # the exponential is another one
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6 * float(theirs.abs().max()))
