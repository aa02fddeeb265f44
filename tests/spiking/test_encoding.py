"""A coder's spikes say what the pixel says, and the gradient finds its way back."""

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.errors import AuditError
from audit.spiking.encoding import Coding, Encoder
from tests.networks.teachers import generator, rand, small_snn
from tests.oracles.encoding import latency, log_latency, phase

STEPS = 4000
CODINGS: tuple[Coding, ...] = get_args(Coding)
TEMPORAL: tuple[Coding, ...] = ("latency", "log-latency")
JUMPING: tuple[Coding, ...] = ("phase", *TEMPORAL)
GRADED: tuple[Coding, ...] = ("rate", "unsigned-rate", "direct")
UNIT = torch.cat([torch.linspace(0, 1, 41), rand(59).abs()])[None]  # pixels in [0, 1]
untimed = settings(deadline=None, max_examples=40)


def test_every_coding_is_tested_here() -> None:
    assert sorted(CODINGS) == sorted((*JUMPING, *GRADED))


def test_the_mean_of_a_rate_code_is_the_pixel() -> None:
    x = torch.linspace(-1, 1, 41)[None]
    mean = Encoder("rate")(x, STEPS, generator(1)).mean(0)
    bound = 5 * (x.abs() * (1 - x.abs()) / STEPS).sqrt() + 1e-6
    assert bool(((mean - x).abs() <= bound).all()), mean - x


def test_a_rate_code_holds_unit_spikes_with_the_sign_of_the_pixel() -> None:
    x = rand(3, 2, 4, 4)
    train = Encoder("rate")(x, 50, generator(2))
    assert train.shape == (50, 3, 2, 4, 4)
    assert set(train.unique().tolist()) == {-1.0, 0.0, 1.0}
    assert bool((train * x >= 0).all())


def test_a_pixel_of_0_never_spikes_and_a_full_one_always() -> None:
    train = Encoder("rate")(torch.tensor([[0.0, 1.0, -1.0]]), STEPS, generator(3))
    assert torch.equal(train.unique(dim=0), torch.tensor([[[0.0, 1.0, -1.0]]]))


def test_no_black_pixel_spikes_even_where_the_random_number_is_exactly_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.zeros(shape))
    assert Encoder("rate")(torch.zeros(1, 3), 2, generator()).count_nonzero() == 0


def test_pixels_and_steps_draw_independently() -> None:
    train = Encoder("rate")(torch.full((1, 2), 0.5), STEPS, generator(4))[:, 0]
    same_step = (train[:, 0] == train[:, 1]).float().mean()
    next_step = (train[1:, 0] == train[:-1, 0]).float().mean()
    assert abs(float(same_step) - 0.5) < 0.05
    assert abs(float(next_step) - 0.5) < 0.05


@pytest.mark.parametrize("coding", ["rate", "direct"])
def test_the_gradient_of_every_step_reaches_the_pixel(coding: Coding) -> None:
    x = rand(2, 3).requires_grad_()
    weights = rand(6, 2, 3, seed=1)
    (Encoder(coding)(x, 6, generator()) * weights).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, weights.sum(0))


def test_asking_for_a_gradient_does_not_change_the_spikes() -> None:
    x = rand(2, 3, 4, 4)
    plain = Encoder("rate")(x, 9, generator(5))
    assert torch.equal(Encoder("rate")(x.clone().requires_grad_(), 9, generator(5)), plain)


def test_the_generator_alone_decides_the_spikes() -> None:
    x = rand(2, 3, 4, 4)
    global_state = torch.get_rng_state()
    first, again, other = (Encoder("rate")(x, 9, generator(seed)) for seed in (6, 6, 7))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), global_state)


def test_a_rate_code_in_two_pieces_is_the_rate_code_in_one() -> None:
    x, source = rand(2, 3, 5), generator(8)
    pieces = torch.cat([Encoder("rate")(x, steps, source) for steps in (1, 4, 2)])
    assert torch.equal(pieces, Encoder("rate")(x, 7, generator(8)))


def test_a_rate_code_without_a_generator_is_refused() -> None:
    with pytest.raises(ValueError, match="pass a generator"):
        Encoder("rate")(rand(1, 2), 3, None)


def test_a_direct_code_is_the_image_itself_at_every_step() -> None:
    x = rand(2, 3, 4, 4)
    train = Encoder("direct")(x, 5, None)
    assert train.shape == (5, 2, 3, 4, 4)
    assert all(torch.equal(step, x) for step in train)


def test_the_mean_of_an_unsigned_rate_code_is_the_pixel_and_its_spikes_are_0_and_1() -> None:
    train = Encoder("unsigned-rate")(UNIT, STEPS, generator(1))
    bound = 5 * (UNIT * (1 - UNIT) / STEPS).sqrt() + 1e-6
    assert bool(((train.mean(0) - UNIT).abs() <= bound).all())
    assert set(train.unique().tolist()) == {0.0, 1.0}


def test_an_unsigned_rate_code_of_a_black_pixel_that_rounding_made_negative_has_no_spike() -> None:
    train = Encoder("unsigned-rate")(torch.full((1, 9), -5e-5), 20_000, generator())
    assert train.count_nonzero() == 0


@untimed
@given(st.floats(0, 1, width=32), st.integers(1, 16))
def test_one_period_of_a_phase_code_adds_up_to_the_pixel_rounded_down_and_then_repeats(x: float, phases: int) -> None:
    train = Encoder("phase", phases)(torch.tensor([[x]]), 3 * phases, None).flatten()
    digits = phase(x, phases)
    assert train.tolist() == [digit * 2.0 ** -(1 + t) for t, digit in enumerate(digits)] * 3
    decoded = float(train[:phases].sum())
    assert decoded <= x <= decoded + 2.0**-phases
    assert decoded <= 1 - 2.0**-phases


def test_a_full_pixel_is_clipped_to_the_largest_phase_code() -> None:
    assert float(Encoder("phase", 5)(torch.ones(1, 1), 5, None).sum()) == 1 - 2**-5


@pytest.mark.parametrize("coding", TEMPORAL)
@pytest.mark.parametrize("steps", [1, 2, 9, 64])
def test_a_temporal_code_is_one_spike_and_black_pixels_spike_last_or_never(coding: Coding, steps: int) -> None:
    train = Encoder(coding)(UNIT, steps, None)
    assert set(train.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(train.sum(0), (UNIT > 0).float())
    with_black = Encoder(coding, zero_spikes=True)(UNIT, steps, None)
    assert torch.equal(with_black.sum(0), torch.ones_like(UNIT))
    assert torch.equal(with_black[:, UNIT > 0], train[:, UNIT > 0])
    assert bool((with_black[-1][UNIT == 0] == 1).all())


@pytest.mark.parametrize("coding", TEMPORAL)
@pytest.mark.parametrize("steps", [1, 2, 9, 100, 711, 800])
def test_a_spike_time_is_that_of_the_formula(coding: Coding, steps: int) -> None:
    x = torch.cat([torch.linspace(0, 1, 11), torch.tensor([1e-30, 1e-12, 1e-5, 0.999])])[None]
    times = Encoder(coding, zero_spikes=True)(x, steps, None).argmax(0).flatten().tolist()
    formula = latency if coding == "latency" else log_latency
    for pixel, time in zip(x.flatten().tolist(), times, strict=True):
        assert abs(float(formula(pixel, steps)) - time) <= 0.5 + 1e-9


@untimed
@given(st.floats(1 / 128, 1, width=32), st.integers(2, 800))
def test_a_latency_decodes_to_the_pixel_within_half_a_time_step(x: float, steps: int) -> None:
    time = int(Encoder("latency")(torch.tensor([[x]]), steps, None).argmax())
    assert abs(1 - time / (steps - 1) - x) <= 0.5 / (steps - 1) + 1e-9


@untimed
@given(st.floats(1 / 128, 1, width=32), st.integers(2, 800))
def test_a_log_latency_decodes_to_the_pixel_within_a_factor_of_half_a_time_step(x: float, steps: int) -> None:
    time = int(Encoder("log-latency")(torch.tensor([[x]]), steps, None).argmax())
    # a x + 1 = e^(T - 1 - t), divided by e^(T - 1) so that nothing leaves the range of numbers.
    shrunk = torch.tensor(-(steps - 1.0), dtype=torch.float64).exp()
    found = torch.tensor(-float(time), dtype=torch.float64)
    low, high = ((found + half).exp() for half in (-0.5, 0.5))
    assert float(low) * (1 - 1e-9) <= (1 - float(shrunk)) * x + float(shrunk) <= float(high) * (1 + 1e-9)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_signed_pixel_is_encoded_with_its_sign_or_refused(coding: Coding) -> None:
    signed = torch.tensor([[-0.5, 0.25]])
    if coding in ("rate", "direct"):
        mean = Encoder(coding)(signed, STEPS, generator()).mean(0)
        torch.testing.assert_close(mean, signed, atol=0.05, rtol=0)
    else:
        with pytest.raises(AuditError, match=rf"{coding} coding takes values in \[0, 1\].*lie in \[-0\.5, 0\.25\]"):
            Encoder(coding)(signed, 4, generator())


@pytest.mark.parametrize("coding", [coding for coding in CODINGS if coding != "direct"])
@pytest.mark.parametrize("odd", [1.5, -1.5, float("nan"), float("inf")])
def test_a_pixel_out_of_range_is_refused(coding: Coding, odd: float) -> None:
    with pytest.raises(AuditError, match=r"takes values in \[-?\d, 1\]"):
        Encoder(coding)(torch.tensor([[0.5, odd]]), 4, generator())


@pytest.mark.parametrize("coding", JUMPING)
def test_asking_for_a_gradient_that_a_coding_does_not_have_is_an_error(coding: Coding) -> None:
    x = UNIT.clone().requires_grad_()
    with pytest.raises(AuditError, match=f"{coding} coding has no gradient"):
        Encoder(coding)(x, 4, None)
    with torch.no_grad():
        assert torch.equal(Encoder(coding)(x, 4, None), Encoder(coding)(UNIT, 4, None))


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("coding", JUMPING)
def test_a_network_says_so_too_and_still_trains_its_weights(coding: Coding, mode: bool) -> None:
    network, images = small_snn(coding, 8).train(mode), rand(3, 2, 6, 6).abs()
    with pytest.raises(AuditError, match=f"{coding} coding has no gradient"):
        network(images.clone().requires_grad_())
    with torch.no_grad():
        expected = network(images.clone().requires_grad_())
    logits = network(images)
    assert torch.equal(logits, expected)
    logits[:, 0].sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("coding", GRADED)
def test_a_gradient_reaches_the_image_in_either_mode(coding: Coding, mode: bool) -> None:
    x = rand(3, 2, 6, 6).abs().requires_grad_()
    small_snn(coding, 8).train(mode)(x, generator())[:, 0].sum().backward()
    assert x.grad is not None
    assert float((x.grad != 0).float().mean()) > 0.5


@untimed
@given(st.sampled_from(CODINGS), st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 9))
def test_a_code_in_pieces_is_the_code_in_one(coding: Coding, pieces: list[int], after: int) -> None:
    steps, encoder, source = sum(pieces), Encoder(coding), generator(8)
    window, start, found = steps + after, 0, []
    for piece in pieces:
        found.append(encoder(UNIT, piece, source, start, window))
        start += piece
    assert torch.equal(torch.cat(found), encoder(UNIT, steps, generator(8), 0, window))


def test_a_shorter_run_sees_the_beginning_of_the_networks_own_window() -> None:
    network, x = small_snn("latency", 12), rand(2, 2, 6, 6).abs()
    both = network.outputs_over_time(x, [5, 12])
    torch.testing.assert_close(network(x, time_steps=5), both[0])
    torch.testing.assert_close(network(x), both[1])


@pytest.mark.parametrize("coding", CODINGS)
def test_a_code_that_calls_itself_binary_holds_unit_spikes_and_a_static_one_repeats(coding: Coding) -> None:
    encoder = Encoder(coding)
    train = encoder(UNIT, 24, generator())
    assert encoder.binary == (set(train.unique().tolist()) <= {-1.0, 0.0, 1.0})
    assert encoder.static == bool((train == train[0]).all())
    assert encoder.random == (not torch.equal(train, encoder(UNIT, 24, generator(1))))
