"""NIR graphs and files for tests; where the package is missing, whatever imports this is skipped."""

import io
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from audit.spiking.encoding import Encoder
from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF
from audit.spiking.nir import Discretisation, read_nir
from audit.spiking.strangers import Expected
from tests.networks.teachers import generator

nir = pytest.importorskip("nir", reason="NIR files need the package nir")
h5py = pytest.importorskip("h5py", reason="NIR files need the package h5py")

SHAPE = (2, 6, 6)
EXPECTED = Expected(SHAPE, 3)
HOW = Discretisation(Encoder("direct"), 8, dt=0.5)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Multiples of 1/64 in [-0.5, 0.5], for exact sums."""
    return np.random.default_rng(seed).integers(-32, 33, shape).astype(np.float32) / 64


def lif(*shape: int, **changed: Any) -> Any:
    """A LIF with leak 0.75 at dt 0.5, whose currents count as they are."""
    values = {"tau": 2.0, "r": 4.0, "v_leak": 0.0, "v_threshold": 0.7, "v_reset": 0.0, **changed}
    return nir.LIF(**{name: np.full(shape, value) for name, value in values.items()})


def spiking(*shape: int, **changed: Any) -> Any:
    """An IF whose currents count as they are at dt 0.5."""
    values = {"r": 2.0, "v_threshold": 0.7, "v_reset": 0.0, **changed}
    return nir.IF(**{name: np.full(shape, value) for name, value in values.items()})


def conv(**changed: Any) -> Any:
    settings = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1, "bias": np.zeros(4, np.float32), **changed}
    return nir.Conv2d(input_shape=(6, 6), **{"weight": numbers(4, 2, 3, 3), **settings})


def pool(kind: Any) -> Any:
    return kind(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))


def small_nodes(**changed: Any) -> dict[str, Any]:
    """A network for images 2x6x6 and three classes; ``changed`` nodes take their place, or come in before the end."""
    nodes = {
        "in": nir.Input(np.array(SHAPE)),
        "conv": conv(),
        "lif1": lif(4, 6, 6),
        "pool": pool(nir.AvgPool2d),
        "flat": nir.Flatten(np.array([4, 3, 3]), 0, -1),
        "hidden": nir.Linear(numbers(5, 36)),
        "lif2": lif(5),
        "fc": nir.Affine(numbers(3, 5), numbers(3)),
    }
    return {**nodes, **changed, "out": nir.Output(np.array([3]))}


def graph(nodes: dict[str, Any], more: Sequence[tuple[str, str]] = ()) -> Any:
    """A chain of the nodes, with more edges."""
    names = list(nodes)
    return nir.NIRGraph(nodes, [*pairwise(names), *more], type_check=False)


def content(built: Any, change: Callable[[Any], object] = lambda file: None) -> bytes:
    """The bytes of the graph's file, changed in place."""
    file = io.BytesIO()
    nir.write(file, built)
    with h5py.File(file, "r+") as opened:
        change(opened)
    return file.getvalue()


def read(source: Any, how: Discretisation = HOW, expected: Expected = EXPECTED) -> SpikingNetwork:
    return read_nir(source, "model.nir", expected, how)


def logits(network: SpikingNetwork, x: Tensor) -> Tensor:
    return network(x, generator())


@torch.no_grad()
def spikes(network: SpikingNetwork, x: Tensor) -> list[Tensor]:
    """Of every neuron layer, at every time-step, in the order of the layers."""
    h = network.encoder(x, network.time_steps, generator(), 0, network.time_steps).flatten(0, 1)
    found = []
    for layer in network.layers:
        h = layer(h.unflatten(0, (-1, len(x))))[0].flatten(0, 1) if isinstance(layer, LIF) else layer(h)
        found += [h] if isinstance(layer, LIF) else []
    return found
