"""A network from the Neuromorphic Intermediate Representation (NIR; Pedersen et al., Nature Communications, 2024)."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audit.errors import AuditError
from audit.spiking.encoding import Encoder
from audit.spiking.files import build_layer
from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import Reset
from audit.spiking.nir_chain import Node, Numbers, chain_of, float32, graph_of
from audit.spiking.nir_neuron import NEURONS, neuron_of
from audit.spiking.strangers import Expected, assemble
from audit.spiking.surrogate import Surrogate

WEIGHTS = ("Conv2d", "Linear", "Affine")


@dataclass(frozen=True)
class Discretisation:
    """What a NIR file does not say: how a NIR graph, which is continuous in time, runs in T time-steps of ``dt``.

    ``dt`` > 0 in the file's unit of time. ``reset``: of neurons whose metadata does not say it; NIR defines the hard
    one, and exporters write soft ones down as if they were hard. ``drop_output_neurons``: a network that ends in
    neurons is read without these, so that its logits are their summed input; otherwise it is refused.
    """

    encoder: Encoder
    time_steps: int
    dt: float = 1e-4
    reset: Reset = "hard"
    drop_output_neurons: bool = False


def read_nir(source: Any, where: str, expected: Expected, how: Discretisation) -> SpikingNetwork:
    """The bytes of a NIR file, or a nir.NIRGraph, as a network; ``where`` names it in errors.

    Neurons are those of `audit.spiking.nir_neuron`. A sum pooling is an average pooling times its kernel's area, by
    which the next layer's weights are multiplied, or the threshold divided. Weights become float32; ``output_scale``
    comes from the Output's metadata, else it is 1.

    Raises AuditError naming the node that cannot be represented so, and where a limit of `audit.spiking.strangers` or
    of `audit.spiking.nir_chain` is exceeded.
    """
    if not 0 < how.dt < float("inf"):
        raise AuditError(f"{where}: a time-step takes dt > 0, not {how.dt}")
    chain = _without_output_neurons(chain_of(graph_of(source, where), where), how)
    parts = _Parts(torch.empty(1, *expected.image_shape, device="meta"), how)
    parts.begin(chain[0])
    for node in chain[1:-1]:
        parts.add(node)
    parts.end(chain[-2], expected)
    tensors = {**parts.tensors, "output_scale": _output_scale(chain[-1])}
    described = {
        "kind": "spiking",
        "encoder": asdict(how.encoder),
        "time_steps": how.time_steps,
        "layers": parts.layers,
    }
    network = assemble(described, tensors, where, expected)
    assert isinstance(network, SpikingNetwork)
    return network


@dataclass
class _Parts:
    """The layers so far as `audit.spiking.files` describes them, and what an image has become after them.

    ``x``: on the meta device, [1, ...]. ``factor``: by which ``x`` is smaller than what NIR says, from a sum pooling.
    """

    x: Tensor
    how: Discretisation
    layers: list[dict[str, Any]] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    factor: float = 1.0

    def add(self, node: Node) -> None:
        handler = _HANDLERS.get(node.kind)
        if handler is None:
            raise node.refusal(
                f"a network is audited of Input, {', '.join(_HANDLERS)} and Output; take it out, or fold it into others"
            )
        handler(self, node)

    def put(self, node: Node, kind: str, settings: dict[str, Any], **tensors: Tensor) -> None:
        """One more layer. Raises AuditError naming the node where what comes in does not fit it."""
        layer = {"name": _layer_name(node.name, self.layers), "type": kind, **settings}
        try:
            with torch.device("meta"):
                made = build_layer(layer)
                if kind != "LIF":
                    self.x = made(self.x)
        except (RuntimeError, ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
            reason = " ".join(str(error).split())[:200]
            raise node.refusal(f"it does not fit what it is given, {_shape(self.x)}: {reason}") from error
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise node.refusal("it has values beyond float32", name)
            self.tensors[f"layers.{layer['name']}.{name}"] = tensor
        self.layers.append(layer)

    def begin(self, node: Node) -> None:
        """The Input: images as they are, or flat; some exporters leave a batch of 1 in front."""
        images = tuple(self.x.shape[1:])
        shape = node.sizes("shape") if node.fields.get("shape") is not None else images
        if len(shape) in (2, 4) and shape[0] == 1:
            shape = shape[1:]
        if shape == (self.x.numel(),):
            self.put(node, "Flatten", {"start_dim": 1, "end_dim": -1})
        elif shape != images:
            raise node.refusal(f"the network takes {shape}, and the images are {images}", "shape")

    def convolution(self, node: Node) -> None:
        weight, bias = node.numbers("weight"), node.numbers("bias", 0.0)
        if weight.ndim != 4 or self.x.dim() != 4 or weight.shape[1] != self.x.shape[1]:
            raise node.refusal(f"it is {weight.shape}, and what it is given {_shape(self.x)}", "weight")
        for name in ("groups", "dilation"):
            if set(node.sizes(name, 1)) != {1}:
                raise node.refusal(f"it is {node.sizes(name)}: only convolutions with 1 are audited", name)
        stride, kernel = node.pair("stride", 1), list(weight.shape[2:])
        padding = _padding(node, kernel, stride)
        settings = {"in_channels": weight.shape[1], "out_channels": weight.shape[0], "kernel_size": kernel}
        self._put_weights(node, "Conv2d", {**settings, "stride": stride, "padding": padding}, weight, bias)

    def linear(self, node: Node) -> None:
        weight = node.numbers("weight")
        bias = node.numbers("bias") if node.kind == "Affine" else np.zeros(())
        if weight.ndim != 2 or self.x.shape[1:] != weight.shape[1:]:
            raise node.refusal(f"it is {weight.shape}, and what it is given {_shape(self.x)}", "weight")
        settings = {"in_features": weight.shape[1], "out_features": weight.shape[0]}
        self._put_weights(node, "Linear", settings, weight, bias)

    def _put_weights(self, node: Node, kind: str, settings: dict[str, Any], weight: Numbers, bias: Numbers) -> None:
        biased = bool(bias.any())  # NIR's convolutions always have one
        if biased and bias.shape != weight.shape[:1]:
            raise node.refusal(f"it is {bias.shape} for {weight.shape[0]} outputs", "bias")
        tensors = {"weight": float32(weight * self.factor)}
        if biased:
            tensors["bias"] = float32(bias)
        self.factor = 1.0
        self.put(node, kind, {**settings, "bias": biased}, **tensors)

    def pooling(self, node: Node) -> None:
        if self.x.dim() != 4:
            raise node.refusal(f"it pools images, and is given {_shape(self.x)}")
        kernel, padding = node.pair("kernel_size"), node.pair("padding", 0)
        settings = {"kernel_size": kernel, "stride": node.pair("stride"), "padding": padding}
        self.put(node, "AvgPool2d", {**settings, "ceil_mode": False, "count_include_pad": True})
        if node.kind == "SumPool2d":
            self.factor *= kernel[0] * kernel[1]

    def flatten(self, node: Node) -> None:
        first, last = node.sizes("start_dim", 1), node.sizes("end_dim", -1)
        dims = self.x.dim() - 1
        if first != (0,) or last not in ((-1,), (dims - 1,)):
            raise node.refusal(
                f"it flattens {first[0]} to {last[0]} of {dims} dimensions; only all, 0 to -1, are audited"
            )
        self.put(node, "Flatten", {"start_dim": 1, "end_dim": -1})

    def neuron(self, node: Node) -> None:
        found = neuron_of(node, self.x.shape[1:], self.how.dt, self.how.reset)
        threshold = float32(found.threshold / self.factor)
        self.factor = 1.0
        if not (threshold > 0).all():
            raise node.refusal("a threshold is not above 0 in float32", "v_threshold")
        surrogate = asdict(Surrogate())
        settings = {"leak": found.leak, "reset": found.reset, "surrogate": surrogate, "threshold": [*threshold.shape]}
        self.put(node, "LIF", settings, threshold=threshold)

    def end(self, last: Node, expected: Expected) -> None:
        if self.factor != 1:
            raise last.refusal("a sum pooling is followed by no layer with weights and no neuron")
        if tuple(self.x.shape[1:]) != (expected.classes,):
            raise last.refusal(f"it gives {_shape(self.x)} for an image, and there are {expected.classes} classes")


_HANDLERS: dict[str, Callable[[_Parts, Node], None]] = {
    "Conv2d": _Parts.convolution,
    "Linear": _Parts.linear,
    "Affine": _Parts.linear,
    "AvgPool2d": _Parts.pooling,
    "SumPool2d": _Parts.pooling,
    "Flatten": _Parts.flatten,
    "IF": _Parts.neuron,
    "LIF": _Parts.neuron,
}


def _without_output_neurons(chain: list[Node], how: Discretisation) -> list[Node]:
    """Logits are the summed input of the last layer with weights: what fires after it has no place."""
    where = max((i for i, node in enumerate(chain) if node.kind in NEURONS), default=None)
    if where is None:
        raise chain[0].refusal("no neurons follow it: this is no spiking network")
    node = chain[where]
    if any(other.kind in WEIGHTS for other in chain[where:]):
        return chain
    if not how.drop_output_neurons:
        raise node.refusal(
            "the network ends in neurons, and here the last layer with weights sums its input up and never fires; end "
            "the graph before it, or have it left out: --set nir.drop_output_neurons=true"
        )
    return [*chain[:where], *chain[where + 1 :]]


def _output_scale(node: Node) -> Tensor:
    scale = replace(node, fields=node.metadata).numbers("output_scale", 1.0)
    if scale.size != 1 or scale <= 0:
        raise node.refusal("output_scale is one number above 0", "metadata")
    return float32(scale.reshape(()))


def _padding(node: Node, kernel: Sequence[int], stride: Sequence[int]) -> list[int]:
    padding = node.fields.get("padding")
    if not isinstance(padding, str):
        return node.pair("padding", 0)
    if padding == "valid":
        return [0, 0]
    if padding != "same":
        raise node.refusal("it is numbers, 'same' or 'valid'", "padding")
    if set(stride) != {1} or any(size % 2 == 0 for size in kernel):
        raise node.refusal("'same' is audited with stride 1 and kernels of odd sides", "padding")
    return [size // 2 for size in kernel]


def _shape(x: Tensor) -> str:
    return " x ".join(str(n) for n in x.shape[1:])


def _layer_name(name: str, layers: Sequence[dict[str, Any]]) -> str:
    """What a layer of ours may be called: letters, digits and _, no method's name, and none that is taken."""
    base = re.sub(r"[^A-Za-z0-9_]", "_", name)[:40] or "layer"
    taken = {layer["name"] for layer in layers}
    if base not in taken and not hasattr(nn.Sequential(), base):
        return base
    return next(found for i in range(len(layers) + 1) if (found := f"{base}_{i}") not in taken)
