"""Small networks and tasks that the tests share."""

from collections import OrderedDict

import torch
from torch import nn

from audit.contracts import Task
from audit.networks.vgg import vgg
from audit.spiking.conversion import balance_thresholds
from audit.spiking.encoding import Coding, Encoder
from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import Reset
from audit.spiking.twin import spiking_twin

TASK = Task("toy", ("a", "b", "c"), (2, 8, 8))
CPU = torch.device("cpu")


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    """Uniform in [-1, 1]."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dyadic(*shape: int, bits: int = 8, density: float = 1.0, seed: int = 0) -> torch.Tensor:
    """Multiples of 2^-``bits`` in [-1, 1], the others 0: float32 sums of a few thousand of them are exact."""
    source = generator(seed)
    values = torch.randint(-(2**bits), 2**bits + 1, shape, generator=source) / 2**bits
    return values * (torch.rand(shape, generator=source) < density)


def small_ann(dropout: float = 0.0, seed: int = 0) -> nn.Sequential:
    """Two convolutions with a pooling between them and a linear layer, for images 2x6x6; in eval()."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(2, 4, 3, padding=1, bias=False),
                relu1=nn.ReLU(),
                drop1=nn.Dropout(dropout),
                conv2=nn.Conv2d(4, 4, 3, padding=1),
                relu2=nn.ReLU(),
                pool=nn.AvgPool2d(2),
                flatten=nn.Flatten(),
                fc=nn.Linear(36, 3),
            )
        ).eval()


def small_snn(
    coding: Coding = "rate", steps: int = 7, leak: float = 1.0, reset: Reset = "soft", dropout: float = 0.0
) -> SpikingNetwork:
    """The twin of `small_ann` with thresholds low enough that a few steps make many spikes."""
    network = spiking_twin(small_ann(dropout), Encoder(coding), steps, leak, reset)
    for neuron in network.neurons.values():
        neuron.threshold.fill_(0.3)
    return network


def tiny_teacher(seed: int = 0) -> nn.Sequential:
    """A VGG5 of few channels for `TASK`; in eval()."""
    return vgg("vgg5", TASK.image_shape, len(TASK.classes), width=0.07, hidden=12, dropout=0.1, seed=seed).eval()


def tiny_target(coding: Coding = "direct", steps: int = 16, seed: int = 0) -> SpikingNetwork:
    """The converted `tiny_teacher`, thresholds balanced on noise."""
    network = spiking_twin(tiny_teacher(seed), Encoder(coding), steps)
    balance_thresholds(network, rand(16, *TASK.image_shape), seed=0, scale=0.7)
    return network


def exact_snn(
    coding: Coding = "rate",
    steps: int = 7,
    leak: float = 1.0,
    reset: Reset = "soft",
    per_channel: bool = False,
    dropout: float = 0.0,
) -> SpikingNetwork:
    """Three convolutions, one of them strided and one behind a pooling, for images 2x8x8, in eval(). Its currents are
    exact sums, so that no order of summation changes a spike."""
    ann = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(2, 20, 3, padding=1, bias=False),
            relu1=nn.ReLU(),
            drop1=nn.Dropout(dropout),
            conv2=nn.Conv2d(20, 12, 3, stride=2, padding=1),
            relu2=nn.ReLU(),
            pool=nn.AvgPool2d(2),
            conv3=nn.Conv2d(12, 35, 3, padding=1),
            relu3=nn.ReLU(),
            flatten=nn.Flatten(),
            fc=nn.Linear(140, 3),
        )
    ).eval()
    network = spiking_twin(ann, Encoder(coding), steps, leak, reset)
    with torch.no_grad():
        for seed, parameter in enumerate(network.parameters()):
            parameter.copy_(dyadic(*parameter.shape, bits=7, seed=seed) / 2)
        for neuron, channels in zip(network.neurons.values(), (20, 12, 35), strict=True):
            thresholds = torch.linspace(0.25, 2.0, channels).view(-1, 1, 1)
            neuron.threshold = thresholds if per_channel else torch.tensor(0.75)
    return network
