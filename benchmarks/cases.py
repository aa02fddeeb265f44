"""What is timed: a network, a number of time-steps, and whether the gradient is taken."""

from dataclasses import dataclass

import torch
from torch import Tensor

from audit.networks.operations import multiply_accumulates
from audit.spiking.network import SpikingNetwork
from benchmarks.networks import images, spiking_vgg
from benchmarks.peers import PEERS, Simulate

BATCH = 16


@dataclass(frozen=True)
class Made:
    """A network and its encoded input [T, B, C, H, W]."""

    network: SpikingNetwork
    train: Tensor
    gradient: bool

    def step(self, simulate: Simulate, train: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits, and for training the gradients of all weights under the cross-entropy of their mean over time."""
        if not self.gradient:
            with torch.no_grad():
                return simulate(train), []
        logits = simulate(train)
        labels = torch.arange(train.shape[1]) % logits.shape[1]
        loss = torch.nn.functional.cross_entropy(logits / len(train), labels)
        return logits.detach(), list(torch.autograd.grad(loss, list(self.network.parameters())))

    @property
    def operations(self) -> float:
        """Floating-point operations of the dense simulation: 2 per multiply-accumulate; training takes three times."""
        macs = sum(multiply_accumulates(self.network.layers, self.train.shape[2:]).values())
        return 2 * macs * self.train.shape[0] * self.train.shape[1] * (3 if self.gradient else 1)


@dataclass(frozen=True)
class Case:
    """``peers``: the implementations that are timed beside ours."""

    model: str
    time_steps: int
    gradient: bool
    peers: tuple[str, ...]

    def make(self) -> Made:
        return self.of(spiking_vgg(self.model, self.time_steps))

    def of(self, network: SpikingNetwork) -> Made:
        generator = torch.Generator().manual_seed(1)
        train = network.encoder(images(BATCH, seed=1), self.time_steps, generator)
        return Made(network.train(self.gradient), train, self.gradient)


ALL = tuple(name for name in PEERS if name != "ours")  # the plain loop first: the others are compared with it
CASES: dict[str, Case] = {
    "vgg9 forward T=100": Case("vgg9", 100, False, ALL),
    "vgg16 forward T=100": Case("vgg16", 100, False, ALL),
    "vgg9 training T=150": Case("vgg9", 150, True, ALL),
    "vgg16 training T=150": Case("vgg16", 150, True, ()),
}
