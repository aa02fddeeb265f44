"""Attack 1 of PrivateSNN: reconvert the SNN to an ANN, then ascend a class logit."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from audit.contracts import AttackContext, Reconstructions
from audit.networks.ascent import Ascent, Positive, StepRule, class_images
from audit.registry import register_attack
from audit.spiking.network import SpikingNetwork


@dataclass(frozen=True)
class Reconversion:
    """LIF becomes ReLU, the weights stay, and Algorithm 1 ascends a class logit (PrivateSNN, 2022, attack 1).

    Access: the target's weights. ``rate`` is the paper's eta, ``blur_every`` its f_blur; updates, blur radius and
    weight decay come from the public visualisation script behind it. An ANN is attacked as it is.
    """

    images_per_class: Annotated[int, Field(ge=1)] = 30
    updates: Annotated[int, Field(ge=1)] = 149
    rate: Positive = 6.0
    blur_every: Annotated[int, Field(ge=0)] = 4
    blur_sigma: Positive = 1.0
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-4
    step: StepRule = "auto"
    normalised_rate: Positive = 0.01
    batch_size: Annotated[int, Field(ge=1)] = 250

    def reconstruct(self, target: nn.Module, context: AttackContext) -> Reconstructions:
        network = target.to_ann() if isinstance(target, SpikingNetwork) else target
        network = network.to(context.device).eval().requires_grad_(False)

        def gradient(x: Tensor, labels: Tensor) -> Tensor:
            x = x.detach().requires_grad_()
            logits = network(x).gather(1, labels[:, None])
            return torch.autograd.grad(logits.sum(), x)[0]

        ascent = Ascent(
            self.updates, self.rate, self.step, self.normalised_rate,
            self.blur_every, self.blur_sigma, self.weight_decay, self.batch_size,
        )  # fmt: skip
        return class_images(lambda: gradient, self.images_per_class, ascent, context)


register_attack("reconversion", Reconversion)
