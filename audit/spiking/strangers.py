"""A network that a stranger wrote to a file: parsed with limits, allocated only after everything was found to fit."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from audit.errors import AuditError
from audit.spiking.encoding import Encoder
from audit.spiking.files import build, outline
from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF
from audit.spiking.surrogate import Surrogate
from audit.strict_json import strict_json

LONGEST_HEADER = 2**20
LARGEST_ACTIVATION = 2**24  # numbers per image after any layer: 256 times those of VGG16's largest

Size = Annotated[int, Field(ge=1, le=2**20)]
Sizes = Size | tuple[Size, Size]
Padding = Annotated[int, Field(ge=0, le=64)]
Paddings = Padding | tuple[Padding, Padding]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,60}$")]


class _Layer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)
    name: Name


class _Conv2d(_Layer):
    type: Literal["Conv2d"]
    in_channels: Size
    out_channels: Size
    kernel_size: Sizes
    stride: Sizes
    padding: Paddings
    bias: bool


class _Linear(_Layer):
    type: Literal["Linear"]
    in_features: Size
    out_features: Size
    bias: bool


class _AvgPool2d(_Layer):
    type: Literal["AvgPool2d"]
    kernel_size: Sizes
    stride: Sizes
    padding: Paddings
    ceil_mode: bool
    count_include_pad: bool


class _Dropout(_Layer):
    type: Literal["Dropout"]
    p: Annotated[float, Field(ge=0, lt=1)]


class _Flatten(_Layer):
    type: Literal["Flatten"]
    start_dim: Literal[1]
    end_dim: Literal[-1]


class _ReLU(_Layer):
    type: Literal["ReLU"]


class _LIF(_Layer):
    type: Literal["LIF"]
    leak: Annotated[float, Field(ge=0, le=1)]
    reset: Literal["soft", "hard"]
    initial: Annotated[float, Field(ge=0, le=1)] = 0.0
    surrogate: Surrogate
    threshold: Annotated[tuple[Size, ...], Field(max_length=3)]


class _AdaptiveLIF(_Layer):
    type: Literal["AdaptiveLIF"]
    adaptation: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    decay: Annotated[float, Field(ge=0, lt=1)]
    surrogate: Surrogate
    threshold: Annotated[tuple[Size, ...], Field(max_length=3)]


AnyLayer = Annotated[
    _Conv2d | _Linear | _AvgPool2d | _Dropout | _Flatten | _ReLU | _LIF | _AdaptiveLIF, Field(discriminator="type")
]


class _Ann(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["ann"]
    layers: Annotated[tuple[AnyLayer, ...], Field(min_length=1, max_length=500)]


class _Spiking(_Ann):
    kind: Literal["spiking"]  # type: ignore[assignment]
    encoder: Encoder
    time_steps: Annotated[int, Field(ge=1, le=10_000)]


_DESCRIPTION: TypeAdapter[_Ann | _Spiking] = TypeAdapter(Annotated[_Ann | _Spiking, Field(discriminator="kind")])


@dataclass(frozen=True)
class Expected:
    """What the network has to take and to give: ``image_shape`` (C, H, W) and the number of ``classes``."""

    image_shape: tuple[int, int, int]
    classes: int


def parse_network(content: bytes, where: str, expected: Expected) -> nn.Module:
    """The network in the bytes of a safetensors file named ``where``, as `save_network` writes it.

    Raises AuditError where it is no such file, and as `assemble` does.
    """
    described = _described(content, where)
    return assemble(described, _tensors(content, where), where, expected)


def assemble(described: Any, tensors: Mapping[str, Tensor], where: str, expected: Expected) -> nn.Module:
    """The network that a description as of `audit.spiking.files.describe` says, with these tensors as its state.

    Raises AuditError where a layer is unknown or its settings out of range, tensors do not fit the layers, a number is
    not finite, a threshold not above 0, or it does not classify images of that shape.
    """
    description = _checked(described, where)
    _check_numbers(tensors, where)
    try:
        with torch.device("meta"):
            empty = outline(description)
        _check_shapes(empty, tensors)
        _check_forward(empty, expected)
        network = build(description, dict(tensors))
    except (ValueError, TypeError, RuntimeError, KeyError, OverflowError) as error:  # KeyError: a layer named 'forward'
        raise AuditError(f"{where}: {' '.join(str(error).split())[:300]}") from error
    if isinstance(network, SpikingNetwork) and not all(bool((n.threshold > 0).all()) for n in network.neurons.values()):
        raise AuditError(f"{where}: a threshold is not above 0")
    return network


def _described(content: bytes, where: str) -> Any:
    """The metadata's description of the layers, as JSON values."""
    try:
        (length,) = struct.unpack("<Q", content[:8])
        if length > min(LONGEST_HEADER, len(content) - 8):
            raise ValueError(f"a header of {length:,} bytes")
        header = strict_json(content[8 : 8 + length])
        return strict_json(header["__metadata__"]["network"].encode())
    except (struct.error, KeyError, TypeError, AttributeError) as error:
        raise AuditError(f"{where} is no safetensors file with a description of its network") from error
    except (ValueError, RecursionError) as error:
        raise AuditError(f"{where} is no safetensors file with a description of its network: {error}") from error


def _checked(described: Any, where: str) -> dict[str, Any]:
    """The description with every value of it known, in range and of its type."""
    try:
        checked = _DESCRIPTION.validate_python(described)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise AuditError(f"{where}: the description of the network: {place}: {first['msg']}") from error
    if len({layer.name for layer in checked.layers}) < len(checked.layers):
        raise AuditError(f"{where}: two layers have the same name")
    return checked.model_dump()


def _tensors(content: bytes, where: str) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise AuditError(f"{where} is no readable safetensors file: {error}") from error
    return tensors


def _check_numbers(tensors: Mapping[str, Tensor], where: str) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise AuditError(f"{where}: {name[:80]} holds {tensor.dtype}; weights are float32")
        if not torch.isfinite(tensor).all():
            raise AuditError(f"{where}: {name[:80]} has values that are not finite")


def _check_shapes(empty: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in empty.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(wanted | given):
        if wanted.get(name) != given.get(name):
            what = f"{given.get(name, 'nothing')} where its description says {wanted.get(name, 'nothing')}"
            raise ValueError(f"tensor '{name[:80]}' is {what}")


def _check_forward(empty: nn.Module, expected: Expected) -> None:
    """Shapes only: on the meta device nothing is computed or allocated."""
    layers = empty.to_ann() if isinstance(empty, SpikingNetwork) else empty
    neurons = empty.neurons if isinstance(empty, SpikingNetwork) else {}
    x = torch.empty(1, *expected.image_shape, device="meta")
    for name, layer in layers.eval().named_children():
        if isinstance(layer, LIF):
            raise ValueError(f"layer '{name}' is a neuron in a network that does not spike")
        x = layer(x)
        if name in neurons and neurons[name].threshold.shape not in ((), (1,), (x.shape[1], *(1,) * (x.ndim - 2))):
            shape = tuple(neurons[name].threshold.shape)
            raise ValueError(f"the threshold of '{name}' is {shape}: it is one number, or one per channel")
        if x.numel() > LARGEST_ACTIVATION:
            raise ValueError(f"layer '{name}' gives {x.numel():,} numbers per image; at most {LARGEST_ACTIVATION:,}")
    if tuple(x.shape) != (1, expected.classes):
        raise ValueError(f"it gives {tuple(x.shape)} for an image; there are {expected.classes} classes")
