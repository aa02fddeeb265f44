"""Batch norm folded into the layer before it: what remains is weights and biases."""

import copy
from collections import OrderedDict

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def fold_batch_norms(network: nn.Sequential) -> nn.Sequential:
    """The network without its batch norms: the layers before them give the same in eval(). Raises as `folded` does."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in network._modules.items():
        if isinstance(layer, BATCH_NORMS):
            before = next(reversed(layers), "")
            layers[before] = folded(layers.get(before), name, layer)
        elif layer is not None:
            layers[name] = copy.deepcopy(layer)
    return nn.Sequential(layers).train(network.training)


def folded(before: nn.Module | None, name: str, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.Module:
    """A convolution or linear layer with the batch norm ``name`` after it, at its running statistics, as one layer.

    Raises ValueError where there are no running statistics, or nothing that it can be folded into.
    """
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
