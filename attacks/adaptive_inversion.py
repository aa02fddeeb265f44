"""Inversion through the spiking network itself, by an attacker who does not trust its surrogate gradient."""

from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from audit.contracts import Access, AttackContext, NotApplicable, Reconstructions
from audit.networks.ascent import Positive, derived_seed
from audit.networks.inversion import Inversion, Logits, invert
from audit.networks.perturbations import low_frequency, margin, source
from audit.registry import register_attack
from audit.spiking.encoding import Encoder
from audit.spiking.network import SpikingNetwork
from audit.spiking.rates import coding_gain
from audit.spiking.surrogate import Shape, Surrogate

Input = Literal["straight-through", "expected"]


@dataclass(frozen=True)
class AdaptiveInversion(Inversion):
    """Back-propagation through time with the attacker's own surrogate, coder and priors.

    Access: the target's weights and thresholds; the surrogate that it was trained with is ignored, since a badly
    chosen one masks the gradient. Every pairing of ``widths``, ``shapes`` and ``inputs`` is tried on one image per
    class for ``pilot_updates``; the one that raises the target's own margin most makes the images, as `Inversion` says.
    Inputs: 'expected' feeds the coder's mean over time, the image times a gain; 'straight-through' draws ``encodings``
    spike trains per update and averages (expectation over transformation, Athalye et al., ICML 2018). Each image is the
    best of ``restarts`` by the target's margin. Cost: per update and image a forward and a backward pass over
    ``time_steps`` (0: the target's own), times ``encodings``; Bu et al., CVPR 2023 and Lun et al., CVPR 2025 on why the
    surrogate decides.
    """

    access: ClassVar[Access] = Access.WEIGHTS

    widths: tuple[Positive, ...] = (1.0, 2.0, 3.0, 5.0)
    shapes: tuple[Shape, ...] = ("triangle", "arctan")
    inputs: tuple[Input, ...] = ("expected", "straight-through")
    pilot_updates: Annotated[int, Field(ge=1)] = 10
    updates: Annotated[int, Field(ge=1)] = 60
    encodings: Annotated[int, Field(ge=1)] = 1
    restarts: Annotated[int, Field(ge=1)] = 1
    rate: Positive = 0.025
    enough: Positive = 2.0
    time_steps: Annotated[int, Field(ge=0)] = 0
    batch_size: Annotated[int, Field(ge=1)] = 100

    def reconstruct(self, target: nn.Module, context: AttackContext) -> Reconstructions:
        if not isinstance(target, SpikingNetwork):
            raise NotApplicable("the target is an ANN: it has no surrogate gradient to follow")
        network = target.to(context.device).eval().requires_grad_(False)
        classes = torch.arange(len(context.task.classes))
        pilots = {
            (width, shape, entry): self._pilot(network, width, shape, entry, classes, context)
            for width, shape, entry in product(self.widths, self.shapes, self.inputs)
            if entry == "expected" or network.encoder.differentiable
        }
        if not pilots:
            raise NotApplicable(f"{network.encoder.coding} coding has no gradient; 'expected' input was not asked for")
        width, shape, entry = best = max(pilots, key=lambda pilot: pilots[pilot])
        context.notes["pilot margins"] = {f"{w:g} {s} {e}": value for (w, s, e), value in pilots.items()}
        context.notes["chosen"] = f"{best[1]} surrogate of width {best[0]:g}, {best[2]} input"
        labels = classes.repeat(self.images_per_class)
        logits_of, draws = self._logits(network, width, shape, entry, context)
        tries: list[Tensor] = []
        scores: list[Tensor] = []
        course: list[float] = []
        for restart in range(self.restarts):
            images, course = invert(logits_of, labels, self, context, f"restart {restart}", draws)
            tries.append(images)
            scores.append(self._score(network, images, labels, context))
        chosen = torch.stack(scores).argmax(0)
        context.notes["margin by update"] = [course[0], course[-1]]
        return Reconstructions(torch.stack(tries)[chosen, torch.arange(len(labels))], labels)

    def _pilot(
        self, network: SpikingNetwork, width: float, shape: Shape, entry: Input, classes: Tensor, context: AttackContext
    ) -> float:
        """The target's own mean margin on one image per class."""
        logits_of, draws = self._logits(network, width, shape, entry, context)
        images, _ = invert(logits_of, classes, replace(self, updates=self.pilot_updates), context, "pilot", draws)
        return float(self._score(network, images, classes, context).mean())

    def _logits(
        self, network: SpikingNetwork, width: float, shape: Shape, entry: Input, context: AttackContext
    ) -> tuple[Logits, torch.Generator]:
        """The target with another surrogate, which changes its gradient and no spike, and what it draws spikes from;
        'expected' changes the input."""
        copy = deepcopy(network)
        for neuron in copy.neurons.values():
            neuron.surrogate = Surrogate(shape, width, per_threshold=True)
        gain = _gain(network, context) if entry == "expected" else 1.0
        if entry == "expected":
            copy.encoder = Encoder("direct")
        generator = torch.Generator(context.device).manual_seed(derived_seed(context.seed, "encodings", 0))
        repeats = self.encodings if copy.encoder.random else 1

        def logits_of(x: Tensor) -> Tensor:
            runs = [copy(gain * x, generator, self.time_steps or network.time_steps) for _ in range(repeats)]
            return torch.stack(runs).mean(0)

        return logits_of, generator

    @torch.no_grad()
    def _score(self, network: SpikingNetwork, images: Tensor, labels: Tensor, context: AttackContext) -> Tensor:
        """Margins of finished images on the target as it is, [N], in the unit of its logits."""
        generator = torch.Generator(context.device).manual_seed(derived_seed(context.seed, "selection", 0))
        batches = images.split(self.batch_size)
        return margin(torch.cat([network(x.to(context.device), generator).cpu() for x in batches]), labels)


def _gain(network: SpikingNetwork, context: AttackContext) -> float:
    """Of the image in the mean of its spike train: 1 for rates, otherwise measured on the attacker's noise."""
    if network.encoder.differentiable:
        return 1.0
    low, high = context.task.input_range
    x = low_frequency(64, context.task.image_shape, source(context.seed, "gain")) * (high - low) + low
    steps = network.time_steps
    return float(coding_gain(x, network.encoder(x, steps, None, 0, steps).mean(0)))


register_attack("adaptive-inversion", AdaptiveInversion)
