"""Weight normalisation: every layer divided by the scale of its activations, so that all thresholds are 1."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from audit.contracts import DefenseContext
from audit.errors import AuditError
from audit.spiking.settings import Spiking, some
from audit.spiking.simulation import WEIGHTED


@dataclass(frozen=True)
class Normalized(Spiking):
    """Conversion with the activations' scales on ``threshold_images`` private images, chosen at random."""

    threshold_images: Annotated[int, Field(ge=1)] = 1024

    def scales(self, teacher: nn.Sequential, context: DefenseContext, percentile: float) -> dict[str, float]:
        """As `activation_scales`."""
        assert context.private_images is not None
        generator = torch.Generator().manual_seed(context.seed)
        chosen = some(context.private_images.pixels, self.threshold_images, generator)
        context.notes["threshold_images"] = len(chosen)
        images = context.task.normalise(chosen.to(context.device))
        return activation_scales(teacher.to(context.device).eval(), images, percentile)


@torch.no_grad()
def activation_scales(ann: nn.Sequential, images: Tensor, percentile: float, batch_size: int = 256) -> dict[str, float]:
    """Per ReLU layer of ``ann``, in eval(), that percentile of its positive activations on ``images`` [N, C, H, W].

    100 is the maximum (Diehl et al., IJCNN 2015), 99.9 makes it robust (Rueckauer et al., Frontiers in Neuroscience 11,
    2017). Raises AuditError for a layer that is never active.
    """
    scales: dict[str, float] = {}
    found: dict[str, list[Tensor]] = {}
    for h in images.split(batch_size):
        for name, layer in ann.named_children():
            h = layer(h)
            if isinstance(layer, nn.ReLU):
                found.setdefault(name, []).append(h[h > 0].flatten())
    for name, parts in found.items():
        positive = torch.cat(parts).sort().values
        if not len(positive):
            raise AuditError(f"weight normalisation: layer '{name}' is never active on {len(images)} images")
        scales[name] = float(positive[max(0, round(percentile / 100 * len(positive)) - 1)])
    return scales


@torch.no_grad()
def scale_layers(layers: nn.Sequential, scales: Mapping[str, float], height: float = 1.0) -> None:
    """Divide the current into each layer of neurons by its scale: W <- W scale_before / scale, b <- b / scale.

    In place. ``scales``: by the name of the neurons' layer. What a neuron gives at that current is ``height``. Of
    weight layers in a row, the first takes what comes in and the last gives what goes out. The last weight layer's
    output stays what it was.
    """
    before = 1.0
    last: nn.Conv2d | nn.Linear | None = None
    for name, layer in layers.named_children():
        if isinstance(layer, WEIGHTED):
            layer.weight *= before
            before, last = 1.0, layer
        elif name in scales:
            if last is not None:
                last.weight /= scales[name]
                if last.bias is not None:
                    last.bias /= scales[name]
            before, last = scales[name] / height, None
