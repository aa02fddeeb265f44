"""ANN-SNN conversion by weight normalisation with the private training images."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn

from audit.contracts import DataAccess, DefenseContext
from audit.registry import register_defense
from audit.spiking.encoding import Coding
from audit.spiking.network import SpikingNetwork
from audit.spiking.twin import spiking_twin
from audit.spiking.weight_normalization import Normalized, scale_layers


@dataclass(frozen=True)
class WeightNormalization(Normalized):
    """Conversion by weight normalisation at a percentile, reset by subtraction (Rueckauer et al. 2017).

    Each layer's weights are divided by the ``normalization_percentile`` of its activations on ``threshold_images``
    training images, times that of the layer before; biases by its own. All thresholds are 1. As in the paper, images
    enter as constant currents, and batch norm is folded. The last layer accumulates: the paper's spiking softmax is not
    needed for classes alone.
    """

    data_access: ClassVar[DataAccess] = DataAccess.TRAINING_IMAGES
    baselines: ClassVar[tuple[str, ...]] = ()

    coding: Coding = "direct"
    normalization_percentile: Annotated[float, Field(gt=0, le=100)] = 99.9

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> SpikingNetwork:
        scales = self.scales(teacher, context, self.normalization_percentile)
        context.notes["layer scales"] = scales
        network = spiking_twin(teacher, self.encoder, self.time_steps, surrogate=self.slope).eval()
        scale_layers(network.layers, scales)
        for neuron in network.neurons.values():
            neuron.threshold.fill_(1.0)
        network.output_scale.fill_(1 / self.time_steps)
        return network


@dataclass(frozen=True)
class MaximumWeightNormalization(WeightNormalization):
    """Conversion by weight normalisation at the maximum activation, Poisson input (Diehl et al. 2015).

    Their data-based normalisation takes the largest weight too where it exceeds the activations; for a network trained
    with weight decay it does not. The reset is by subtraction here as well: theirs to zero loses what exceeds.
    """

    coding: Coding = "rate"
    normalization_percentile: Annotated[float, Field(gt=0, le=100)] = 100.0


register_defense("weight-normalization", WeightNormalization)
register_defense("weight-normalization-max", MaximumWeightNormalization)
