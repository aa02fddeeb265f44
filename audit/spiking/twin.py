"""From an ANN to the spiking network with its weights."""

import copy
from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from audit.spiking.encoding import Encoder
from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF, Reset
from audit.spiking.simulation import WEIGHTED
from audit.spiking.surrogate import Surrogate

STATELESS = (nn.AvgPool2d, nn.Flatten)


def spiking_twin(
    ann: nn.Sequential,
    encoder: Encoder,
    time_steps: int,
    leak: float = 1.0,
    reset: Reset = "soft",
    surrogate: Surrogate | None = None,
) -> SpikingNetwork:
    """The network with ``ann``'s weights (copied) and LIF neurons whose thresholds are not yet set.

    Sequences within the sequence are laid out flat, 'block.0' becomes 'block_0'; identities are left out. A batch
    norm right after its convolution or linear layer is folded into it, with its running statistics.
    Raises ValueError naming the layer that has no spiking counterpart.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in _flat(ann):
        if name in layers:
            raise ValueError(f"two layers would be called '{name}' once the nested sequences are laid out flat")
        if isinstance(layer, nn.ReLU):
            layers[name] = LIF(leak=leak, reset=reset, surrogate=surrogate)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            before = next(reversed(layers), None)
            layers[str(before)] = _folded(layers.get(str(before)), name, layer)
        elif isinstance(layer, (*WEIGHTED, *STATELESS, nn.Dropout)):
            layers[name] = copy.deepcopy(layer)
        else:
            raise ValueError(f"layer '{name}' ({type(layer).__name__}) has no spiking counterpart")
    if not layers or not isinstance(next(reversed(layers.values())), WEIGHTED):
        raise ValueError("the last layer must be a convolution or a linear layer: it accumulates and never fires")
    return SpikingNetwork(nn.Sequential(layers), encoder, time_steps).train(ann.training)


def _flat(ann: nn.Sequential, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    # Not named_children(): it passes over an activation that stands in several places.
    for name, layer in ann._modules.items():
        if isinstance(layer, nn.Sequential):
            yield from _flat(layer, f"{prefix}{name}_")
        elif layer is not None and not isinstance(layer, nn.Identity):
            yield f"{prefix}{name}", layer


def _folded(before: nn.Module | None, name: str, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.Module:
    if norm.running_mean is None:
        raise ValueError(f"layer '{name}': a batch norm without running statistics cannot be folded")
    mode, norm = norm.training, copy.deepcopy(norm).eval()
    if norm.weight is None:  # not affine: torch's fusion of linear layers asks for the identity
        norm.weight, norm.bias = (
            nn.Parameter(torch.ones_like(norm.running_mean)),
            nn.Parameter(torch.zeros_like(norm.running_mean)),
        )
    if isinstance(before, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
        fused: nn.Module = fuse_conv_bn_eval(before.eval(), norm)
    elif isinstance(before, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
        fused = fuse_linear_bn_eval(before.eval(), norm)
    else:
        raise ValueError(
            f"layer '{name}' ({type(norm).__name__}) has no spiking counterpart here: a batch norm is folded into the "
            "convolution or linear layer right before it"
        )
    return fused.requires_grad_(before.weight.requires_grad).train(mode)
