"""Reconversion that first recovers the scale of every layer."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from audit.contracts import Access, AttackContext, NotApplicable, Reconstructions
from audit.networks.ascent import derived_seed
from audit.networks.inversion import Inversion, invert
from audit.networks.queries import misfit, own_images
from audit.registry import register_attack
from audit.spiking.network import SpikingNetwork
from audit.spiking.rates import coding_gain, mean_current
from audit.spiking.scales import Found, Scales, scaled_ann, search_scales


@dataclass(frozen=True)
class ScaleSearch(Inversion):
    """Search the layer-wise scales of a converted network, then reconvert it (PrivateSNN, 2022, 'The Vulnerability').

    Access: the target's weights and thresholds. A conversion scales weights, or thresholds, by layer; the paper expects
    an attacker to recover the ANN 'by searching several combinations of layer-wise scaling factors'. Candidates are
    scored by how well the reconverted ANN gives the target's own answers to ``queries`` synthetic images; see
    `audit.spiking.scales.search_scales`.

    Where the search is vacuous: a ReLU network without biases is positively homogeneous: any scales give the same
    logits up to a factor, and this is reconversion. So it is where weights and biases were normalised together. Where
    it matters: biases (of a folded batch norm) beside thresholds that are not 1, where plain reconversion adds numbers
    of different units; neurons that leak or reset to zero, which fire less than their current says; and clipping: rates
    are whole spikes, one per time-step at most, so candidates are scored as such, and the ANN then does without. Images
    are made as `Inversion` says. Cost: one run of the target per query, some dozens of ANN passes over the queries.
    """

    access: ClassVar[Access] = Access.WEIGHTS

    queries: Annotated[int, Field(ge=8)] = 64
    rounds: Annotated[int, Field(ge=0)] = 3

    def reconstruct(self, target: nn.Module, context: AttackContext) -> Reconstructions:
        if not isinstance(target, SpikingNetwork):
            raise NotApplicable("the target is an ANN: nothing was scaled")
        network = target.to(context.device).eval().requires_grad_(False)
        ann = self._reconverted(network, context)
        labels = torch.arange(len(context.task.classes)).repeat(self.images_per_class)
        images, course = invert(ann, labels, self, context, "scale search")
        context.notes["margin by update"] = [course[0], course[-1]]
        return Reconstructions(images, labels)

    @torch.no_grad()
    def _reconverted(self, network: SpikingNetwork, context: AttackContext) -> nn.Sequential:
        generator = torch.Generator(context.device).manual_seed(derived_seed(context.seed, "target", 0))
        queries = own_images(self.queries, context)
        coded = network.encoder(queries, network.time_steps, generator, 0, network.time_steps)
        gain = coding_gain(queries, coded.mean(0))
        wanted = torch.cat([mean_current(network, batch, generator) for batch in queries.split(32)])

        def misfit_of(scales: Scales) -> float:
            return misfit(scaled_ann(network, scales, gain, rates=True), queries, wanted)

        found = search_scales(network, misfit_of, self.rounds)
        _note(found, context)
        return scaled_ann(network, found.scales, gain)


def _note(found: Found, context: AttackContext) -> None:
    context.notes["combinations tried"] = found.tried
    context.notes["error on its queries"] = found.misfit
    context.notes["layer scales"] = {name: float(scale.mean()) for name, scale in found.scales.items()}


register_attack("scale-search", ScaleSearch)
