"""A coder's spikes say what the pixel says, and the gradient finds its way back."""

import pytest
import torch

from audit.spiking.encoding import Coding, Encoder
from tests.networks.teachers import generator, rand

STEPS = 4000


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


def test_only_a_rate_code_is_binary() -> None:
    assert Encoder("rate").binary
    assert not Encoder("direct").binary
