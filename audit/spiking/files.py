"""Networks as data: a JSON description of the layers beside named tensors; no code is ever loaded."""

import json
from collections import OrderedDict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from audit.spiking.adaptive_neuron import AdaptiveLIF
from audit.spiking.encoding import Encoder
from audit.spiking.live import Live, revive
from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF
from audit.spiking.simulation import WEIGHTED
from audit.spiking.surrogate import Surrogate

_FIELDS: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    "Conv2d": (nn.Conv2d, ("in_channels", "out_channels", "kernel_size", "stride", "padding")),
    "Linear": (nn.Linear, ("in_features", "out_features")),
    "AvgPool2d": (nn.AvgPool2d, ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")),
    "Dropout": (nn.Dropout, ("p",)),
    "Flatten": (nn.Flatten, ("start_dim", "end_dim")),
    "ReLU": (nn.ReLU, ()),
}


def describe(network: nn.Module) -> dict[str, Any]:
    """The network's structure without its weights, as JSON values. Raises ValueError naming an unknown layer."""
    if isinstance(network, Live):
        return network.described()
    if isinstance(network, SpikingNetwork):
        return {
            "kind": "spiking",
            "encoder": asdict(network.encoder),
            "time_steps": network.time_steps,
            "layers": [_describe_layer(name, layer) for name, layer in network.layers.named_children()],
        }
    if not isinstance(network, nn.Sequential):
        raise ValueError(f"a {type(network).__name__} is no sequence of layers")
    # Not named_children(): it passes over an activation that stands in several places.
    layers = [(name, layer) for name, layer in network._modules.items() if layer is not None]
    return {"kind": "ann", "layers": [_describe_layer(name, layer) for name, layer in layers]}


def build(description: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    """The inverse of `describe`, with the weights put in. Raises ValueError where they do not fit."""
    network = outline(description)
    try:
        network.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise ValueError(f"weights do not fit the described network: {error}") from error
    return network.eval()


def outline(description: dict[str, Any]) -> nn.Module:
    """The described network with whatever weights its layers begin with."""
    if description["kind"] == "live":
        return revive(description)
    layers = nn.Sequential(OrderedDict((layer["name"], build_layer(layer)) for layer in description["layers"]))
    network: nn.Module = layers
    if description["kind"] == "spiking":
        network = SpikingNetwork(layers, Encoder(**description["encoder"]), description["time_steps"])
    return network


def weights(network: nn.Module) -> dict[str, Tensor]:
    """The state of the network, on the CPU, contiguous: what is stored and hashed."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}


def save_network(network: nn.Module, path: Path) -> None:
    """Write one safetensors file whose metadata describes the network."""
    save_file(weights(network), path, metadata={"network": json.dumps(describe(network), sort_keys=True)})
    path.chmod(0o644)  # safetensors makes files that only their owner can read


def load_network(path: Path) -> nn.Module:
    """Read what `save_network` wrote."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        description = json.loads(file.metadata()["network"])
    return build(description, tensors)


def _describe_layer(name: str, layer: nn.Module) -> dict[str, Any]:
    if isinstance(layer, LIF):
        return {"name": name, **_describe_neuron(layer)}
    kind = type(layer).__name__
    if kind not in _FIELDS:
        raise ValueError(f"layer '{name}' ({kind}) cannot be stored; known are {', '.join(_FIELDS)}, LIF, AdaptiveLIF")
    values = {key: getattr(layer, key) for key in _FIELDS[kind][1]}
    if isinstance(layer, WEIGHTED):
        values["bias"] = layer.bias is not None
    if isinstance(layer, nn.Conv2d) and (
        layer.groups != 1 or set(layer.dilation) != {1} or layer.padding_mode != "zeros"
    ):
        raise ValueError(f"layer '{name}': grouped, dilated or not zero-padded convolutions are not supported")
    if isinstance(layer, nn.AvgPool2d) and layer.divisor_override:
        raise ValueError(f"layer '{name}': a pooling with its own divisor is not supported")
    return {"name": name, "type": kind, **{k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}}


def _describe_neuron(neuron: LIF) -> dict[str, Any]:
    shared = {"surrogate": asdict(neuron.surrogate), "threshold": list(neuron.threshold.shape)}
    if isinstance(neuron, AdaptiveLIF):
        return {"type": "AdaptiveLIF", "adaptation": neuron.adaptation, "decay": neuron.decay, **shared}
    # Not where it is 0: networks described before there was one keep their description, and its hash.
    initial = {"initial": neuron.initial} if neuron.initial else {}
    return {"type": "LIF", "leak": neuron.leak, "reset": neuron.reset, **initial, **shared}


def build_layer(layer: dict[str, Any]) -> nn.Module:
    values = {key: value for key, value in layer.items() if key not in ("name", "type")}
    if layer["type"] in ("LIF", "AdaptiveLIF"):
        threshold, surrogate = torch.full(values.pop("threshold"), float("nan")), Surrogate(**values.pop("surrogate"))
        neuron = AdaptiveLIF if layer["type"] == "AdaptiveLIF" else LIF
        return neuron(threshold, surrogate=surrogate, **values)
    return _FIELDS[layer["type"]][0](**values)
