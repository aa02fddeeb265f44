"""What an attacker asks a target about: images of his own, and how far an ANN's answers are from the target's."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audit.contracts import AttackContext
from audit.networks.ascent import derived_seed
from audit.networks.inversion import spread_of
from audit.networks.perturbations import low_frequency


def own_images(count: int, context: AttackContext) -> Tensor:
    """``count`` images of low-frequency noise of four grain sizes, and those that leaked, in the input range."""
    generator = torch.Generator().manual_seed(derived_seed(context.seed, "queries", 0))
    low, high = context.task.input_range
    noise = low_frequency(count, context.task.image_shape, generator)
    made = (noise * (high - low) + low).to(context.device)
    if context.leaked is None:
        return made
    return torch.cat([made, context.task.normalise(context.leaked.pixels.to(context.device))])


def standardised(logits: Tensor) -> Tensor:
    """What a softmax and a scale leave of logits [B, K]: centred by row, of deviation 1 over all."""
    logits = logits.double()
    return ((logits - logits.mean(1, keepdim=True)) / spread_of(logits)).float()


@torch.no_grad()
def misfit(ann: nn.Module, queries: Tensor, wanted: Tensor) -> float:
    """Mean square difference between the ANN's logits and ``wanted`` [B, K], both standardised."""
    return float(F.mse_loss(standardised(ann(queries)), standardised(wanted)))
