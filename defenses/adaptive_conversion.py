"""Conversion to neurons whose threshold adapts, of an ANN trained with their transfer function."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from audit.contracts import DataAccess, DefenseContext, Task
from audit.errors import AuditError
from audit.networks.tuning import Tuned, positive, with_activations
from audit.registry import register_defense
from audit.spiking.adaptive_neuron import AdaptiveLIF, AdaptiveRate
from audit.spiking.encoding import Coding
from audit.spiking.network import SpikingNetwork
from audit.spiking.settings import Positive
from audit.spiking.twin import spiking_twin
from audit.spiking.weight_normalization import Normalized, scale_layers


@dataclass(frozen=True)
class AdaptiveConversion(Normalized, Tuned):
    """ANN with the transfer function of a spiking neuron with multiplicative adaptation (Zambrano et al. 2019).

    The teacher's ReLUs become `AdaptiveRate`, its weights normalised before so that the 99.9th percentile of each
    layer's activations is a current of ``current`` thresholds; it is trained on, thresholds included, and each
    activation becomes the `AdaptiveLIF` that it describes over ``time_steps``. The paper trains from the beginning,
    gives a closed approximation of the transfer function (here it is computed), and leaves the constants to a search:
    ``adaptation`` and ``decay`` are ours, and images enter as constant currents. Its arousal mechanism is left out.
    """

    data_access: ClassVar[DataAccess] = DataAccess.TRAINING_IMAGES
    baselines: ClassVar[tuple[str, ...]] = ()

    coding: Coding = "direct"
    adaptation: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.9
    current: Positive = 2.0

    def check(self, task: Task, seed: int, device: torch.device) -> None:
        """Raises AuditError for a threshold that would rise faster than it decays."""
        try:
            AdaptiveLIF(1.0, self.adaptation, self.decay)
        except ValueError as error:
            raise AuditError(f"adaptive-conversion.adaptation: {error}") from error

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> SpikingNetwork:
        scales = self.scales(teacher, context, 99.9)
        curve = AdaptiveRate(1 / self.current, self.adaptation, self.decay, self.time_steps)
        tuned = with_activations(teacher, lambda name: deepcopy(curve))
        with torch.no_grad():
            height = float(curve(torch.ones(())))
        scale_layers(tuned, scales, height)
        self.tune(tuned, context)
        curves = {name: layer for name, layer in tuned.named_children() if isinstance(layer, AdaptiveRate)}
        thresholds = positive({name: curve.threshold for name, curve in curves.items()})
        for name in curves:
            setattr(tuned, name, nn.ReLU())
        network = spiking_twin(tuned, self.encoder, self.time_steps).eval()
        for name, threshold in thresholds.items():
            setattr(network.layers, name, AdaptiveLIF(threshold, self.adaptation, self.decay, self.slope))
        context.notes["thresholds"] = thresholds
        network.output_scale.fill_(1 / self.time_steps)
        return network


register_defense("adaptive-conversion", AdaptiveConversion)
