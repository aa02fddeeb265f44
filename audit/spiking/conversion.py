"""ANN-SNN conversion by threshold balancing (Sengupta 2019)."""

import torch
from torch import Tensor, nn

from audit.errors import AuditError
from audit.spiking.network import SpikingNetwork
from audit.spiking.simulation import WEIGHTED


@torch.no_grad()
def balance_thresholds(
    network: SpikingNetwork,
    images: Tensor,
    seed: int,
    percentile: float = 100.0,
    scale: float = 1.0,
    batch_size: int = 64,
) -> dict[str, float]:
    """Set each layer's threshold to the largest weighted input current over time-steps and images, front to back.

    ``images`` float [N, C, H, W] in the network's input range. Layers already balanced spike; the leak is the
    network's own; the last layer has no threshold. ``percentile`` < 100 takes that percentile of the per-image,
    per-neuron peaks instead of their maximum; ``scale`` multiplies the result. A spike stands for a threshold, so that
    currents shrink by it from layer to layer: biases shrink with them (by the new over the old threshold, where there
    was one). Returns the thresholds by layer.
    Raises AuditError where a layer never receives a positive current: a threshold of 0 would fire at any noise.
    """
    network.eval()
    for name, neuron in network.neurons.items():
        # The same spike trains for every layer: thresholds then do not depend on how many layers came before.
        generator = torch.Generator(images.device).manual_seed(seed)
        peaks = [network.current_into(name, batch, generator) for batch in images.split(batch_size)]
        if percentile == 100:
            threshold = torch.stack([peak.max() for peak in peaks]).max()
        else:
            positive = torch.cat([peak.flatten() for peak in peaks])
            positive = positive[positive > 0].sort().values
            index = max(0, min(len(positive) - 1, round(percentile / 100 * len(positive)) - 1))
            threshold = positive[index] if len(positive) else torch.tensor(0.0)
        if not threshold > 0:
            raise AuditError(
                f"threshold balancing: layer '{name}' received no positive current in {network.time_steps} time-steps "
                f"of {len(images)} images, its threshold would be 0; use more time-steps or more images"
            )
        before = torch.where(neuron.threshold.isnan(), 1.0, neuron.threshold)
        neuron.threshold.copy_(threshold * scale)
        _scale_biases_after(network, name, before / neuron.threshold)
    return {name: float(neuron.threshold) for name, neuron in network.neurons.items()}


def _scale_biases_after(network: SpikingNetwork, name: str, factor: Tensor) -> None:
    layers = list(network.layers.named_children())
    for _, layer in layers[[known for known, _ in layers].index(name) :]:
        if isinstance(layer, WEIGHTED) and layer.bias is not None:
            layer.bias *= factor.mean()


@torch.no_grad()
def match_output_scale(
    network: SpikingNetwork, ann: nn.Module, images: Tensor, seed: int, batch_size: int = 64
) -> float:
    """Set ``output_scale`` so that the SNN's logits are, in least squares over ``images``, those of ``ann``.

    Returns the scale per accumulated unit. Raises AuditError where the SNN's output is silent or opposed to the ANN's.
    """
    generator = torch.Generator(images.device).manual_seed(seed)
    network.output_scale.fill_(1.0)
    product = square = 0.0
    for batch in images.split(batch_size):
        spiking, analog = network(batch, generator), ann(batch)
        product += float((spiking * analog).sum())
        square += float(spiking.square().sum())
    if not product > 0:
        raise AuditError(
            f"the converted network's output does not follow the teacher's after {network.time_steps} time-steps "
            "(no positive correlation of their logits); use more time-steps or a lower threshold scale"
        )
    network.output_scale.fill_(product / square)
    return product / square
