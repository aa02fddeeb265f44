"""Batch norm folded into the layer before it."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from audit.networks.folding import fold_batch_norms
from audit.networks.vgg import vgg
from tests.networks.teachers import TASK, rand


def trained(name: str = "vgg5-bn") -> nn.Sequential:
    """With running statistics that are not those of the beginning, and weights of its norms that are not 1."""
    network = vgg(name, TASK.image_shape, len(TASK.classes), width=0.07)
    with torch.no_grad():
        for place in range(5):
            network.train()(rand(16, *TASK.image_shape, seed=place) + 0.3)
        for layer in network:
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.uniform_(0.5, 2.0)
                layer.bias.uniform_(-1.0, 1.0)
    return network.eval()


def test_the_folded_network_answers_as_the_other_one_does() -> None:
    network, x = trained(), rand(8, *TASK.image_shape, seed=9)
    folded = fold_batch_norms(network)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded)
    torch.testing.assert_close(folded(x), network(x), rtol=1e-4, atol=1e-5)


def test_the_network_itself_is_left_as_it_was() -> None:
    network = trained()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fold_batch_norms(network)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_network_without_batch_norm_stays_as_it_is() -> None:
    network = vgg("vgg5", TASK.image_shape, 3, width=0.07)
    folded = fold_batch_norms(network)
    assert list(folded._modules) == list(network._modules)
    assert all(torch.equal(a, b) for a, b in zip(folded.parameters(), network.parameters(), strict=True))


def test_a_batch_norm_with_no_weights_before_it_is_refused_by_its_name() -> None:
    layers = OrderedDict(act=nn.ReLU(), norm=nn.BatchNorm2d(3))
    with pytest.raises(ValueError, match="layer 'norm'"):
        fold_batch_norms(nn.Sequential(layers))
