"""Pooling without its input in memory has torch's values and gradients."""

import pytest
import torch
from torch import nn

from audit.spiking.memory import Pool
from audit.spiking.pooling import average_pool
from tests.networks.teachers import rand


@pytest.mark.parametrize(
    "layer",
    [
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, stride=2, padding=1),
        nn.AvgPool2d((2, 3), count_include_pad=False, padding=1),
        nn.AvgPool2d(2, ceil_mode=True),
    ],
)
def test_values_and_gradients_are_torchs(layer: nn.AvgPool2d) -> None:
    x = rand(3, 4, 7, 9).contiguous(memory_format=torch.channels_last)
    ours, plain = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, expected = average_pool(layer, ours, Pool()), layer(plain)
    assert torch.equal(found, expected)
    weights = rand(*expected.shape, seed=1)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert ours.grad is not None
    assert plain.grad is not None
    torch.testing.assert_close(ours.grad, plain.grad)
