"""Reconversion by an attacker who knows that the target spikes."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from audit.contracts import Access, AttackContext, NotApplicable, Reconstructions
from audit.networks.ascent import Positive, derived_seed
from audit.networks.inversion import Inversion, invert, spread_of
from audit.networks.queries import misfit, own_images, standardised
from audit.registry import register_attack
from audit.spiking.network import SpikingNetwork
from audit.spiking.rates import Substitute, mean_current, rate_network


@dataclass(frozen=True)
class AdaptiveReconversion(Inversion):
    """Reconversion with an activation that stands for the neuron, calibration, distillation and image priors.

    Access: the target's weights and thresholds, and as many private images as leaked (none by default). The LIF becomes
    ``activation``: ReLU (PrivateSNN, attack 1), clip(u/theta, 0, 1), that with a floor to T levels (Bu et al., ICLR
    2022), or the layer's measured rate curve. ``calibrate`` fits every channel to the SNN's rates on ``queries``
    synthetic images; ``distillation_steps`` then train the ANN on the target's logits for them, and for leaked images.
    The images are then made as `Inversion` says. An ANN has nothing to convert and is attacked as it is, by 'relu'
    alone: the other variants would be the same attack. Cost: an ANN's forward and backward pass per update and image,
    and one run of the target per query.
    """

    access: ClassVar[Access] = Access.WEIGHTS

    activation: Substitute = "clip"
    calibrate: bool = False
    queries: Annotated[int, Field(ge=8)] = 64
    distillation_steps: Annotated[int, Field(ge=0)] = 0
    distillation_rate: Positive = 1e-4
    leaked_images: Annotated[int, Field(ge=0)] = 0

    def reconstruct(self, target: nn.Module, context: AttackContext) -> Reconstructions:
        network = target.to(context.device).eval().requires_grad_(False)
        ann = self._reconverted(network, context) if isinstance(network, SpikingNetwork) else network
        if ann is network and self.activation != "relu":
            raise NotApplicable("the target is an ANN: it has no spikes to replace; activation=relu attacks it as is")
        labels = torch.arange(len(context.task.classes)).repeat(self.images_per_class)
        images, course = invert(ann, labels, self, context, "adaptive reconversion")
        context.notes["margin by update"] = [course[0], course[-1]]
        return Reconstructions(images, labels)

    def _reconverted(self, network: SpikingNetwork, context: AttackContext) -> nn.Sequential:
        """The ANN of the target's weights, calibrated and distilled as the settings say."""
        generator = torch.Generator(context.device).manual_seed(derived_seed(context.seed, "target", 0))
        queries = own_images(self.queries, context)
        ann = rate_network(network, self.activation, queries, generator, self.calibrate)
        with torch.no_grad():
            wanted = torch.cat([mean_current(network, batch, generator) for batch in queries.split(32)])
        context.notes["error on its queries"] = misfit(ann, queries, wanted)
        if self.distillation_steps:
            _distil(ann, queries, wanted, self.distillation_steps, self.distillation_rate, context)
            context.notes["error after distillation"] = misfit(ann, queries, wanted)
        return ann


def _distil(
    ann: nn.Sequential, queries: Tensor, wanted: Tensor, steps: int, rate: float, context: AttackContext
) -> None:
    """Train the ANN's weights in place so that its logits are the target's, up to a common scale."""
    generator = torch.Generator().manual_seed(derived_seed(context.seed, "distillation", 0))
    wanted = standardised(wanted)
    with torch.no_grad():
        scale = spread_of(ann(queries))
    weights = [parameter.requires_grad_(True) for parameter in ann.parameters()]
    optimizer = torch.optim.Adam(weights, lr=rate)
    with context.monitor.loop("distillation", steps, ann=ann, optimizer=optimizer, generator=generator) as loop:
        for _ in loop:
            chosen = torch.randint(len(queries), (min(64, len(queries)),), generator=generator).to(queries.device)
            logits = ann(queries[chosen])
            centred = logits.double() - logits.double().mean(1, keepdim=True)
            loss = F.mse_loss((centred / scale).float(), wanted[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    ann.requires_grad_(False)


register_attack("adaptive-reconversion", AdaptiveReconversion)
