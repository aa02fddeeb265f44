"""A network begun anew has the layers of the old one and nothing of what it learnt."""

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from audit.errors import AuditError
from audit.networks.fresh import fresh_copy
from audit.networks.vgg import vgg
from tests.networks.teachers import small_ann, tiny_teacher


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(first: nn.Module, second: nn.Module) -> bool:
    one, other = weights(first), weights(second)
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def test_the_layers_their_names_and_their_settings_are_the_old_ones() -> None:
    old, fresh = small_ann(dropout=0.3), fresh_copy(small_ann(dropout=0.3), 0)
    assert [(name, repr(layer)) for name, layer in fresh.named_children()] == [
        (name, repr(layer)) for name, layer in old.named_children()
    ]
    assert not fresh.training
    assert all(parameter.requires_grad for parameter in fresh.parameters())


def test_nothing_of_the_old_weights_is_left_and_the_old_network_is_unchanged() -> None:
    first, second = small_ann(seed=0), small_ann(seed=1)
    before = weights(first)
    with torch.no_grad():
        second.get_parameter("fc.bias").fill_(float("nan"))
    assert same(fresh_copy(first, 3), fresh_copy(second, 3))
    assert all(torch.equal(tensor, before[name]) for name, tensor in first.state_dict().items())
    shared = {parameter.data_ptr() for parameter in first.parameters()}
    assert shared.isdisjoint(parameter.data_ptr() for parameter in fresh_copy(first, 3).parameters())


def test_the_seed_decides_the_weights_and_the_global_generator_does_not() -> None:
    teacher, state = tiny_teacher(), torch.get_rng_state()
    first, again, other = (fresh_copy(teacher, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert same(first, again)
    assert not same(first, other)


def test_a_teacher_of_the_same_seed_began_with_other_weights() -> None:
    teacher = tiny_teacher(seed=5)
    for old, new in zip(teacher.parameters(), fresh_copy(teacher, 5).parameters(), strict=True):
        assert not torch.equal(old, new)


def test_weights_are_kaiming_normal_and_biases_0() -> None:
    fresh = fresh_copy(vgg("vgg5", (3, 16, 16), 10, width=0.5), 0)
    for layer in fresh:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan_in = layer.weight[0].numel()
            assert float(layer.weight.square().mean() * fan_in) == pytest.approx(2, rel=0.15)
            assert abs(float(layer.weight.mean())) < 4 * (2 / fan_in / layer.weight.numel()) ** 0.5
    assert not fresh_copy(small_ann(), 0).get_parameter("fc.bias").any()


def test_a_layer_that_keeps_statistics_of_images_is_refused_by_name() -> None:
    normalised = nn.Sequential(OrderedDict(conv1=nn.Conv2d(1, 2, 3), bn1=nn.BatchNorm2d(2, affine=False)))
    with pytest.raises(AuditError, match=r"layer 'bn1' \(BatchNorm2d\) cannot be begun anew"):
        fresh_copy(normalised, 0)
    parametrised = nn.Sequential(OrderedDict(fc=nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))))
    with pytest.raises(AuditError, match="layer 'fc"):
        fresh_copy(parametrised, 0)
