"""Attack 2 of PrivateSNN: surrogate gradients through the SNN itself."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from audit.contracts import AttackContext, NotApplicable, Reconstructions
from audit.networks.ascent import Ascent, Positive, StepRule, class_images
from audit.registry import register_attack
from audit.spiking.network import SpikingNetwork


@dataclass(frozen=True)
class DirectInversion:
    """Back-propagation through time to the first convolution, then its transpose (PrivateSNN, 2022, Algorithm 3).

    Access: the target's weights and thresholds. The gradient of the first layer's input current, averaged over the
    time-steps, goes through the transposed convolution with that layer's weights: exactly the gradient of a
    straight-through coder (Sharmin 2020), which is how it is computed. ``rate`` is the paper's zeta; as printed the
    accumulator is never reset between updates: ``reset_accumulator`` False. ``time_steps`` 0 takes the target's own.
    """

    images_per_class: Annotated[int, Field(ge=1)] = 30
    updates: Annotated[int, Field(ge=1)] = 149
    rate: Positive = 0.01
    step: StepRule = "auto"
    normalised_rate: Positive = 0.02
    reset_accumulator: bool = True
    time_steps: Annotated[int, Field(ge=0)] = 0
    batch_size: Annotated[int, Field(ge=1)] = 100

    def reconstruct(self, target: nn.Module, context: AttackContext) -> Reconstructions:
        if not isinstance(target, SpikingNetwork):
            raise NotApplicable("the target is an ANN: it has no surrogate gradient to follow")
        if not target.encoder.differentiable:
            raise NotApplicable(f"{target.encoder.coding} coding has no gradient with respect to the image")
        network = target.to(context.device).eval().requires_grad_(False)
        ascent = Ascent(self.updates, self.rate, self.step, self.normalised_rate, batch_size=self.batch_size)
        steps = self.time_steps or network.time_steps
        generator = torch.Generator(context.device).manual_seed(context.seed)
        start = partial(_Gradient, network, generator, steps, self.reset_accumulator)
        return class_images(start, self.images_per_class, ascent, context)


class _Gradient:
    """Through time, of one batch; without a reset, of all calls so far together."""

    def __init__(self, network: SpikingNetwork, generator: torch.Generator, steps: int, reset: bool) -> None:
        self._network, self._generator, self._steps, self._reset = network, generator, steps, reset
        self._accumulated: Tensor | None = None

    def __call__(self, x: Tensor, labels: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        # Logits in the target's own scale would change the meaning of zeta: Algorithm 3 averages over T.
        network = self._network
        mean = network(x, self._generator, self._steps) / (network.output_scale * network.time_steps)
        step = torch.autograd.grad(mean.gather(1, labels[:, None]).sum(), x)[0]
        if not self._reset:
            step = self._accumulated = step if self._accumulated is None else self._accumulated + step
        return step

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self._generator.get_state(), "accumulated": self._accumulated}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._generator.set_state(state["generator"])
        kept = state["accumulated"]
        self._accumulated = None if kept is None else kept.to(self._generator.device)


register_attack("direct-inversion", DirectInversion)
