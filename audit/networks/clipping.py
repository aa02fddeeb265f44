"""Sums of per-sample gradients, each clipped in norm: the step of DP-SGD that bounds what one image can do."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Images whose gradients are held at once: more are no faster on a CPU, and memory grows with them.
AT_ONCE = 32
# How much larger a layer's gradient may be than P x P numbers before it is no longer written out.
WRITTEN_OUT = 16


def clipped_gradient_sum(network: nn.Sequential, x: Tensor, labels: Tensor, bound: float) -> list[Tensor]:
    """Sum over images of g * min(1, ``bound`` / |g|), g an image's gradient of the cross-entropy and |g| its L2 norm.

    The norm is that of all parameters together, so that one image moves the sum by at most ``bound`` (Abadi et al.
    2016, Algorithm 1, 'clip gradient'). ``x`` float [B, C, H, W], ``labels`` int64 [B]; B may be 0. Returns tensors in
    the order and shapes of ``network.parameters()``, all of them weights or biases of Conv2d or Linear layers.
    """
    total = [torch.zeros_like(parameter) for parameter in network.parameters()]
    for images, classes in zip(x.split(AT_ONCE), labels.split(AT_ONCE), strict=True):
        if len(images):
            layers = _backward(network, images, classes)
            squares = torch.stack([layer.squared_norms() for layer in layers]).sum(0)
            norms = squares.clamp(min=0).sqrt()  # by rounding, a product of Gram matrices may be just below 0
            factors = (bound / norms.clamp(min=bound)).to(x.dtype)
            parts = [part for layer in layers for part in layer.weighted_sum(factors)]
            for sum_, part in zip(total, parts, strict=True):
                sum_ += part
    return total


@dataclass(frozen=True)
class _Gradients:
    """What a layer's per-sample gradients are products of; P positions, 1 for a linear layer.

    ``inputs`` [B, D, P]: what each output position is computed from; ``outputs`` [B, O, P]: d loss / d output.
    ``samples`` [B, O, D]: the gradients themselves, or None where their norms are had for far less memory.
    """

    layer: nn.Conv2d | nn.Linear
    inputs: Tensor
    outputs: Tensor
    samples: Tensor | None

    @classmethod
    def of(cls, layer: nn.Conv2d | nn.Linear, inputs: Tensor, outputs: Tensor) -> "_Gradients":
        # Mixed ghost clipping (Bu, Mao and Xu 2022, Algorithm 1), which decides by memory alone, with a factor of 2;
        # on a CPU the gradients themselves are faster up to a larger one.
        small = inputs.shape[1] * outputs.shape[1] <= WRITTEN_OUT * inputs.shape[2] ** 2
        return cls(layer, inputs, outputs, outputs @ inputs.mT if small else None)

    def squared_norms(self) -> Tensor:
        """[B] in double precision, weight and bias together: a norm that is rounded down is a clip that is missed."""
        if self.samples is not None:
            squares = torch.linalg.vector_norm(self.samples, dim=(1, 2), dtype=torch.float64).square()
        else:
            inputs, outputs = self.inputs.double(), self.outputs.double()
            squares = ((inputs.mT @ inputs) * (outputs.mT @ outputs)).sum((1, 2))
        return squares if self.layer.bias is None else squares + self.outputs.double().sum(2).square().sum(1)

    def weighted_sum(self, factors: Tensor) -> list[Tensor]:
        """Over the samples, ``factors`` [B] times their gradients, in the shapes of the parameters."""
        scaled = self.outputs * factors[:, None, None]
        if self.samples is not None:
            weight = factors @ self.samples.flatten(1)
        else:
            weight = torch.tensordot(scaled, self.inputs, dims=([0, 2], [0, 2]))
        weight = weight.view(self.layer.weight.shape)
        return [weight] if self.layer.bias is None else [weight, scaled.sum((0, 2))]


def _backward(network: nn.Sequential, x: Tensor, labels: Tensor) -> list[_Gradients]:
    """One pass forward and one back; the gradients of the parameters themselves are never asked for."""
    layers: list[nn.Conv2d | nn.Linear] = []
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    h = x
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layers.append(layer)
            inputs.append(_columns(layer, h.detach()))
            h = layer(h)
            outputs.append(h)
        else:
            h = layer(h)
    found = torch.autograd.grad(F.cross_entropy(h, labels, reduction="sum"), outputs)
    by_position = [gradient.flatten(2) if gradient.ndim == 4 else gradient[:, :, None] for gradient in found]
    return [_Gradients.of(*parts) for parts in zip(layers, inputs, by_position, strict=True)]


def _columns(layer: nn.Conv2d | nn.Linear, x: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return x[:, :, None]
    # The padding that the layer itself applies, so that 'same' is no case of its own.
    padded = F.pad(x, layer._reversed_padding_repeated_twice)
    return F.unfold(padded, layer.kernel_size, layer.dilation, 0, layer.stride)
