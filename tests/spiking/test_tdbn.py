"""Threshold-dependent batch norm: what the paper says in training, and nothing of it left after folding."""

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from audit.spiking.encoding import Coding, Encoder
from audit.spiking.neuron import LIF
from audit.spiking.tdbn import NormalisedNetwork, ThresholdDependentNorm
from tests.networks.teachers import generator, rand, small_ann

STEPS = 6


def normalised(coding: Coding = "direct", dropout: float = 0.0, alpha: float = 1.0) -> NormalisedNetwork:
    return NormalisedNetwork(small_ann(dropout), Encoder(coding), LIF(0.5, leak=0.25, reset="hard"), alpha)


def settle(network: NormalisedNetwork) -> None:
    """Statistics of noise, and weights and biases of the norms as a training might leave them."""
    network.train()
    with torch.no_grad():
        for seed in range(40):
            network(rand(8, 2, 6, 6, seed=seed), STEPS, generator(seed))
        for norm in (layer for layer in network.layers if isinstance(layer, ThresholdDependentNorm)):
            weight, bias = rand(2, len(norm.weight))
            norm.weight.copy_(1 + weight / 2)
            norm.bias.copy_(bias / 4)


def test_a_channel_has_mean_0_and_a_deviation_of_alpha_thresholds_over_images_places_and_time() -> None:
    norm = ThresholdDependentNorm(4, scale=2.0 * 0.5)
    out = norm(3 * rand(STEPS * 5, 4, 6, 6) + 7)
    assert out.mean((0, 2, 3)).abs().max() < 1e-4
    assert (out.var((0, 2, 3), correction=0).sqrt() - 1.0).abs().max() < 1e-4


def test_a_single_value_is_normalised_by_the_running_statistics() -> None:
    norm, x = ThresholdDependentNorm(4, scale=0.5), rand(1, 4)
    assert torch.equal(norm.train()(x), norm.eval()(x))


def test_the_batch_norm_of_torch_that_it_becomes_is_the_same_map() -> None:
    norm = ThresholdDependentNorm(4, scale=0.5)
    norm(rand(20, 4, 3, 3) * 2 + 1)
    x = rand(5, 4, 3, 3, seed=1)
    assert torch.allclose(norm.eval()(x), norm.plain(convolution=True)(x), atol=1e-6)


@pytest.mark.parametrize("coding", ["direct", "rate"])
def test_the_folded_network_fires_as_the_unfolded_one_does(coding: Coding, monkeypatch: pytest.MonkeyPatch) -> None:
    network = normalised(coding)
    settle(network)
    network.double().eval()
    folded = network.folded(STEPS).double()
    folded.output_scale.fill_(1 / STEPS)
    seen: list[Tensor] = []
    stretch = LIF.stretch

    def recorded(*arguments, **options):  # type: ignore[no-untyped-def]
        result = stretch(*arguments, **options)
        seen.append(result[0])
        return result

    monkeypatch.setattr(LIF, "stretch", recorded)
    x = rand(7, 2, 6, 6).double()
    with torch.no_grad():
        unfolded_logits = network(x, STEPS, generator())
        folded_logits = folded(x, generator())
    before, after = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert len(before) == 2
    for first, second in zip(before, after, strict=True):
        assert 0.02 < first.mean() < 0.98
        assert torch.equal(first, second)
    assert torch.allclose(unfolded_logits, folded_logits, atol=1e-12)


def test_folding_leaves_the_names_of_the_ann_and_biases_in_all_layers_but_the_last() -> None:
    folded = normalised().folded(STEPS)
    assert [name for name, _ in folded.layers.named_children()] == [n for n, _ in small_ann().named_children()]
    ann = NormalisedNetwork(
        nn.Sequential(OrderedDict(a=nn.Linear(4, 3, bias=False), r=nn.ReLU(), b=nn.Linear(3, 2, bias=False))),
        Encoder("direct"),
        LIF(0.5),
    ).folded(STEPS)
    assert ann.layers.a.bias is not None
    assert ann.layers.b.bias is None
    assert float(ann.neurons["r"].threshold) == 0.5
    assert not ann.training


def test_alpha_scales_what_a_neuron_receives() -> None:
    first, second = normalised(alpha=1.0), normalised(alpha=3.0)
    x = rand(4, 2, 6, 6)
    current, tripled = (network.layers[:2](x) for network in (first.train(), second.train()))
    assert torch.allclose(3 * current, tripled, atol=1e-5)


def test_the_gradient_reaches_every_weight() -> None:
    network = normalised("rate").train()
    network(rand(8, 2, 6, 6), STEPS, generator()).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        if not name.endswith("bias"):  # a bias before a norm moves nothing
            assert parameter.grad.abs().max() > 0, name


def test_dropout_keeps_one_mask_for_all_time_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    network = normalised(dropout=0.5).train()
    seen: list[Tensor] = []
    network.layers.conv2.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0]))
    stretch = LIF.stretch
    monkeypatch.setattr(LIF, "stretch", lambda self, h, steps, u: (torch.ones(steps * len(u), *u.shape[1:]), u, None))
    network(rand(3, 2, 6, 6), STEPS, generator())
    monkeypatch.setattr(LIF, "stretch", stretch)
    dropped = seen[0].unflatten(0, (STEPS, 3)) == 0
    assert 0.2 < dropped.float().mean() < 0.8
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert not torch.equal(dropped[0, 0], dropped[0, 1])


def test_a_layer_that_could_not_be_folded_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match=r"layer '1' \(Tanh\) has no spiking counterpart"):
        NormalisedNetwork(nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)), Encoder("direct"), LIF(0.5))
