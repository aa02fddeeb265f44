"""A spiking network in the language of rates: activations that answer as its neurons do on average."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from audit.spiking.encoding import Encoder
from audit.spiking.neuron import LIF
from audit.spiking.rates import FIRST_KNOT, SPACING, Clip, ClipFloor, RateCurve, Substitute, rate_network, responses
from tests.networks.teachers import exact_snn, generator, rand, small_snn, tiny_target

KNOTS = FIRST_KNOT + SPACING * torch.arange(61)


@pytest.mark.parametrize("steps", [4, 16, 256])
def test_clip_floor_is_the_rate_of_an_integrating_neuron_under_constant_current(steps: int) -> None:
    current = torch.linspace(-1, 2, 301) + 1e-4  # off the levels, where a strict threshold decides
    spikes, _ = LIF(0.7)(current.expand(steps, 1, -1))
    torch.testing.assert_close(ClipFloor(torch.tensor(0.7), steps)(current), spikes.mean(0)[0])
    assert float((Clip(torch.tensor(0.7))(current) - spikes.mean(0)[0]).abs().max()) <= 1 / steps


def test_clip_floor_has_the_gradient_of_the_clip() -> None:
    z = torch.linspace(-0.5, 1.5, 21).requires_grad_()
    (floor,) = torch.autograd.grad(ClipFloor(torch.tensor(1.0), 8)(z).sum(), z)
    (clip,) = torch.autograd.grad(Clip(torch.tensor(1.0))(z).sum(), z)
    assert torch.equal(floor, clip)


def test_a_rate_curve_reads_its_knots_and_is_linear_between_them() -> None:
    rates = torch.linspace(0, 1, len(KNOTS)).square()
    curve = RateCurve(torch.tensor(2.0), rates)
    torch.testing.assert_close(curve(2 * KNOTS), rates)
    middle = (KNOTS[:-1] + KNOTS[1:]) / 2
    torch.testing.assert_close(curve(2 * middle), torch.stack([(a + b) / 2 for a, b in pairwise(rates)]))
    assert curve(torch.tensor([-99.0, 99.0])).tolist() == [0.0, 1.0]


def test_responses_are_those_of_the_network_itself() -> None:
    network, x = exact_snn("direct"), rand(3, 2, 8, 8).clamp(-1, 1)
    answered = responses(network, x, None, batch_size=2)
    assert list(answered) == ["", "relu1", "relu2", "relu3"]
    logits = network(x) / network.time_steps
    head = nn.Sequential(*list(network.layers)[-2:])
    torch.testing.assert_close(head(answered["relu3"].rate), logits)


@pytest.mark.parametrize("substitute", ["clip", "clip-floor", "rate-curve"])
def test_a_rate_network_answers_as_the_spiking_one(substitute: Substitute) -> None:
    network, x = tiny_target("direct", steps=128), rand(16, 2, 8, 8).clamp(-1, 1)
    wanted = network(x) / network.time_steps
    found = rate_network(network, substitute, x, None, calibrate=False)(x)
    assert float(nn.functional.cosine_similarity(found.flatten(), wanted.flatten(), dim=0)) > 0.98


def test_calibration_brings_a_leaky_network_s_rates_nearer() -> None:
    network, x = small_snn("direct", steps=32, leak=0.7), rand(32, 2, 6, 6).clamp(-1, 1)
    wanted = network(x) / network.time_steps

    def error(calibrate: bool) -> float:
        return float((rate_network(network, "clip", x, None, calibrate)(x) - wanted).norm() / wanted.norm())

    assert error(True) < 0.8 * error(False)


def test_the_gain_of_a_coding_that_feeds_less_than_the_pixel_is_measured() -> None:
    x = rand(16, 2, 6, 6).abs().clamp(0.1, 0.9)
    network = small_snn("phase", steps=64)
    gain = rate_network(network, "clip", x, None, calibrate=False)[0].scale
    coded = Encoder("phase")(x, 64, generator(), 0, 64).mean(0)
    assert float(gain) == pytest.approx(float((coded * x).sum() / x.square().sum()))
    assert float(gain) < 0.5
