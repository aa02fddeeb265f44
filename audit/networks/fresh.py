"""A network begun anew: the layers of another one, and none of its weights."""

import copy

import torch
from torch import nn

from audit.errors import AuditError
from audit.networks.ascent import derived_seed


def fresh_copy(network: nn.Sequential, seed: int) -> nn.Sequential:
    """The layers and names of ``network`` with Kaiming-normal (fan in) weights drawn from ``seed``, biases 0; eval().

    ``network`` is not changed, and its device is kept. A teacher's own first weights, `audit.networks.vgg`, are drawn
    from the bare seed: these are others.
    Raises AuditError where a layer other than a convolution or a linear one has weights or statistics, which may hold
    something of the images that ``network`` saw.
    """
    fresh = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(derived_seed(seed, "fresh", 0))
    for name, layer in fresh.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            _begin(layer, generator)
        if _state(layer) - ({"weight", "bias"} if isinstance(layer, nn.Conv2d | nn.Linear) else set()):
            raise AuditError(
                f"layer '{name}' ({type(layer).__name__}) cannot be begun anew: only Conv2d and Linear layers may have "
                "weights or statistics; fold batch normalisation into the layer before it, or use another network"
            )
    return fresh.eval().requires_grad_(True)


def _begin(layer: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
    with torch.no_grad():
        # Drawn on the CPU, so that the weights are the same on every device.
        layer.weight.copy_(nn.init.kaiming_normal_(torch.empty(layer.weight.shape), generator=generator))
        if layer.bias is not None:
            layer.bias.zero_()


def _state(layer: nn.Module) -> set[str]:
    """Names of the parameters and buffers that are the layer's own."""
    own = (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False))
    return {name for name, _ in own}
