"""A twin computes what its ANN computes: batch norms folded, sequences laid out flat, and the ANN as it was."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from audit.spiking.encoding import Encoder
from audit.spiking.neuron import LIF
from audit.spiking.twin import spiking_twin
from tests.networks.teachers import generator, rand

X = rand(6, 2, 6, 6)


def norm(kind: type[nn.BatchNorm1d] | type[nn.BatchNorm2d], channels: int, affine: bool = True) -> nn.Module:
    """A batch norm that does something."""
    layer = kind(channels, affine=affine)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.running_mean.copy_(rand(channels, seed=1))
    layer.running_var.copy_(rand(channels, seed=2).abs() + 0.2)
    if affine:
        nn.init.uniform_(layer.weight, 0.5, 2.0, generator=generator(3))
        nn.init.uniform_(layer.bias, -1.0, 1.0, generator=generator(4))
    return layer


def normed_ann(bias: bool = True, affine: bool = True) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        features = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(2, 4, 3, padding=1, bias=bias),
                norm=norm(nn.BatchNorm2d, 4, affine),
                act=nn.ReLU(),
                pool=nn.AvgPool2d(2),
            )
        )
        head = nn.Sequential(nn.Linear(36, 8, bias=bias), norm(nn.BatchNorm1d, 8, affine), nn.ReLU())
        return nn.Sequential(
            OrderedDict(
                features=features, skip=nn.Identity(), flatten=nn.Flatten(), head=head, fc=nn.Linear(8, 3, bias=bias)
            )
        ).eval()


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_a_folded_batch_norm_computes_what_it_computed_beside_its_layer(bias: bool, affine: bool) -> None:
    ann = normed_ann(bias, affine)
    twin = spiking_twin(ann, Encoder("direct"), 4)
    torch.testing.assert_close(twin.to_ann()(X), ann(X), rtol=1e-5, atol=1e-5)
    leaves = [layer for layer in ann.modules() if not list(layer.children())]
    plain = nn.Sequential(*(layer for layer in leaves if not isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)))
    assert not torch.allclose(plain(X), ann(X), atol=1e-2), "the test says nothing about a batch norm that does nothing"


def test_sequences_are_laid_out_flat_and_identities_and_batch_norms_are_gone() -> None:
    twin = spiking_twin(normed_ann(), Encoder(), 4)
    names = ["features_conv", "features_act", "features_pool", "flatten", "head_0", "head_2", "fc"]
    assert [name for name, _ in twin.layers.named_children()] == names
    assert list(twin.neurons) == ["features_act", "head_2"]


@pytest.mark.parametrize("mode", [True, False])
def test_the_ann_is_left_as_it_was(mode: bool) -> None:
    ann = normed_ann().train(mode)
    before, described = state(ann), repr(ann)
    twin = spiking_twin(ann, Encoder(), 4)
    assert repr(ann) == described
    assert all(module.training == mode for module in ann.modules())
    assert all(module.training == mode for module in twin.modules())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.fill_(9.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in ann.state_dict().items())


@pytest.mark.parametrize("bias", [True, False])
def test_the_weights_and_the_bias_of_a_folded_layer_can_be_trained(bias: bool) -> None:
    twin = spiking_twin(normed_ann(bias), Encoder(), 4)
    assert [name for name, parameter in twin.named_parameters() if not parameter.requires_grad] == []


def test_a_batch_norm_in_training_is_folded_with_its_running_statistics() -> None:
    ann = normed_ann()
    expected = state(spiking_twin(ann, Encoder(), 4))
    found = state(spiking_twin(ann.train(), Encoder(), 4))
    assert all(torch.equal(tensor, expected[name]) or tensor.isnan().all() for name, tensor in found.items())


def odd(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers, flatten=nn.Flatten(), fc=nn.Linear(16, 3)))


CONV, POOL = nn.Conv2d(2, 4, 3), nn.AvgPool2d(2)


@pytest.mark.parametrize(
    "ann",
    [
        odd(conv=CONV, pool=POOL, bn=norm(nn.BatchNorm2d, 4)),
        odd(conv=CONV, act=nn.ReLU(), bn=norm(nn.BatchNorm2d, 4), pool=POOL),
        odd(conv=CONV, drop=nn.Dropout(0.1), bn=norm(nn.BatchNorm2d, 4), pool=POOL),
        odd(bn=norm(nn.BatchNorm2d, 2), conv=CONV, pool=POOL),
        odd(conv=CONV, bn=nn.BatchNorm1d(4), pool=POOL),
    ],
)
def test_a_batch_norm_that_does_not_follow_its_layer_is_named(ann: nn.Sequential) -> None:
    with pytest.raises(ValueError, match=r"layer 'bn' \(BatchNorm\dd\) has no spiking counterpart here"):
        spiking_twin(ann, Encoder(), 3)


def test_a_batch_norm_without_running_statistics_is_named() -> None:
    ann = odd(block=nn.Sequential(OrderedDict(conv=CONV, bn=nn.BatchNorm2d(4, track_running_stats=False))), pool=POOL)
    with pytest.raises(ValueError, match="layer 'block_bn': a batch norm without running statistics cannot be folded"):
        spiking_twin(ann, Encoder(), 3)


def test_two_layers_of_one_name_are_an_error_that_names_it() -> None:
    ann = odd(block=nn.Sequential(OrderedDict(conv=CONV)), block_conv=nn.ReLU(), pool=POOL)
    with pytest.raises(ValueError, match="two layers would be called 'block_conv'"):
        spiking_twin(ann, Encoder(), 3)


def test_a_layer_without_a_counterpart_is_named_by_its_flat_name() -> None:
    ann = odd(block=nn.Sequential(OrderedDict(conv=CONV, odd=nn.MaxPool2d(2))))
    with pytest.raises(ValueError, match=r"layer 'block_odd' \(MaxPool2d\) has no spiking counterpart"):
        spiking_twin(ann, Encoder(), 3)


def test_a_twin_of_normed_layers_spikes_in_proportion_to_its_ann() -> None:
    ann = normed_ann()
    twin = spiking_twin(ann, Encoder("direct"), 400)
    with torch.no_grad():
        for neuron in twin.neurons.values():
            neuron.threshold.fill_(1.0)
        first, analog = copy.deepcopy(twin), ann.features[:3](X).clamp(max=1.0)
        current = ann.features[:2](X)
    spikes, _ = LIF(1.0)(current.expand(400, *current.shape))
    torch.testing.assert_close(spikes.mean(0), analog, atol=0.01, rtol=0)
    folded = first.layers.features_conv(X)
    torch.testing.assert_close(folded, current, atol=1e-5, rtol=1e-5)
