"""A network as a graph of the Neuromorphic Intermediate Representation."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audit.errors import AuditError
from audit.spiking.adaptive_neuron import AdaptiveLIF
from audit.spiking.files import describe
from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF
from audit.spiking.nir_chain import installed


def write_nir(network: SpikingNetwork, path: Path, image_shape: Sequence[int], dt: float = 1e-4) -> None:
    """`to_nir`'s graph in a NIR file; `audit.spiking.nir.read_nir` makes the same network of it."""
    installed("nir").write(path, to_nir(network, image_shape, dt))


@torch.no_grad()
def to_nir(network: SpikingNetwork, image_shape: Sequence[int], dt: float = 1e-4) -> Any:
    """The nir.NIRGraph of ``network`` for images (C, H, W) and time-steps of ``dt``.

    Leak 1 is an IF with r = 1/dt, any other a LIF with tau = dt / (1 - leak) and r = tau / dt, so that a current counts
    as it is. NIR knows the hard reset only: a soft one is said in the neuron's metadata, {"reset": "soft"}, which other
    readers may pass over; ``output_scale`` stands in that of the Output. Input coding, T and surrogate gradient are not
    in it, and dropout is left out. Raises AuditError naming the layer that NIR cannot represent.
    """
    nir = installed("nir")
    try:
        describe(network)
    except ValueError as error:
        raise AuditError(f"NIR: {error}") from error
    x = torch.zeros(1, *image_shape, device=network.output_scale.device)
    nodes: dict[str, Any] = {"input": nir.Input(np.array(image_shape))}
    for name, layer in network.layers.named_children():
        if not isinstance(layer, nn.Dropout):
            nodes[_free(name, nodes)] = _node(nir, name, layer, x, dt)
            x = x if isinstance(layer, LIF) else layer(x)
    scale = {"output_scale": float(network.output_scale)}
    nodes[_free("output", nodes)] = nir.Output(np.array(x.shape[1:]), metadata=scale)
    names = list(nodes)
    return nir.NIRGraph(nodes, list(pairwise(names)), type_check=False)


def _node(nir: Any, name: str, layer: nn.Module, x: Tensor, dt: float) -> Any:
    """``x``: what the layer is given, [1, ...]."""
    match layer:
        case nn.Conv2d():
            bias = np.zeros(layer.out_channels, np.float32) if layer.bias is None else _numbers(layer.bias)
            padding = layer.padding if isinstance(layer.padding, str) else tuple(layer.padding)
            sizes = {"stride": layer.stride, "padding": padding, "dilation": layer.dilation, "groups": layer.groups}
            return nir.Conv2d(input_shape=tuple(x.shape[2:]), weight=_numbers(layer.weight), bias=bias, **sizes)
        case nn.Linear(bias=None):
            return nir.Linear(_numbers(layer.weight))
        case nn.Linear():
            return nir.Affine(_numbers(layer.weight), _numbers(layer.bias))
        case nn.AvgPool2d():
            if layer.ceil_mode or (layer.padding not in (0, (0, 0)) and not layer.count_include_pad):
                raise AuditError(f"NIR: layer '{name}': its poolings neither round sizes up nor leave padding out")
            return nir.AvgPool2d(*(_pair(size) for size in (layer.kernel_size, layer.stride, layer.padding)))
        case nn.Flatten(start_dim=1, end_dim=-1):
            return nir.Flatten(np.array(x.shape[1:]), 0, -1)
        case LIF() if not isinstance(layer, AdaptiveLIF):
            return _neuron(nir, name, layer, x, dt)
        case _:
            raise AuditError(f"NIR: layer '{name}' ({type(layer).__name__}) has no node to stand for it")


def _neuron(nir: Any, name: str, neuron: LIF, x: Tensor, dt: float) -> Any:
    threshold = _numbers(neuron.threshold)
    if not np.isfinite(threshold).all():
        raise AuditError(f"NIR: layer '{name}' has no threshold yet: balance the thresholds, or set it")
    if neuron.initial:
        raise AuditError(f"NIR: layer '{name}': its potential starts at {neuron.initial} of the threshold, NIR's at 0")
    shape, metadata = tuple(x.shape[1:]), {"reset": neuron.reset}
    threshold, zero = np.broadcast_to(threshold, shape).copy(), np.zeros(shape, np.float32)
    if neuron.leak == 1:
        return nir.IF(np.full(shape, 1 / dt), threshold, zero, metadata=metadata)
    tau = dt / (1 - neuron.leak)
    return nir.LIF(np.full(shape, tau), np.full(shape, tau / dt), zero, threshold, zero, metadata=metadata)


def _numbers(tensor: Tensor) -> Any:
    return tensor.detach().cpu().numpy()


def _pair(size: int | tuple[int, int]) -> Any:
    return np.array((size, size) if isinstance(size, int) else size)


def _free(name: str, nodes: dict[str, Any]) -> str:
    return _free(f"{name}_", nodes) if name in nodes else name
