"""From an ANN to the spiking network with its weights."""

import copy
from collections import OrderedDict
from collections.abc import Iterator

from torch import nn

from audit.networks.folding import BATCH_NORMS, folded
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
        elif isinstance(layer, BATCH_NORMS):
            before = next(reversed(layers), "")
            layers[before] = folded(layers.get(before), name, layer)
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
