"""Evasion with the weights: along the target's own gradient with several surrogates, or that of its reconversion."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from audit.contracts import Access, Adversarial, AttackContext, Images, NotApplicable
from audit.networks.ascent import Positive, derived_seed
from audit.networks.evasion import Bounded, Box, Loss, apgd, fgsm, pgd, slope_of
from audit.networks.perturbations import Count, low_frequency, margin, source
from audit.registry import register_attack
from audit.spiking.network import SpikingNetwork
from audit.spiking.rates import Substitute, rate_network
from audit.spiking.straight_through import StraightThrough
from audit.spiking.surrogate import Shape, Surrogate

Method = Literal["fgsm", "pgd", "apgd"]
Gradient = Literal["own", "reconverted"]
Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Evasion(Bounded):
    """Changes images within a bound so that the target errs: FGSM, PGD or APGD, and of a sweep of surrogates the best.

    Access: the target's weights and thresholds. ``method``: 'fgsm' is one step (Goodfellow 2015), 'pgd' ``steps`` from
    a random start that together are ``travel`` times the bound (Madry 2018), 'apgd' as of `audit.networks.evasion`
    (Croce and Hein 2020). ``gradient`` 'own' goes back through time and the target's coder: a rate coder by the mean
    over ``encodings`` spike trains (expectation over transformation, Athalye 2018), a phase or latency coder straight
    through (BPDA, see `StraightThrough`). Its surrogate is the attacker's choice, since a badly chosen one masks the
    gradient: the target's own, then every pairing of ``widths`` and ``shapes``; those after the first work on the
    images that still stand, and of each image the one that the target likes least is kept. 'reconverted' transfers
    from the ANN of the same weights, with ``activation`` in the place of the neuron and calibrated on noise
    (`audit.spiking.rates`): this attacker has no teacher to transfer from. ``loss``: see `slope_of`. The target's
    answers to finished images, the mean over ``encodings``, decide whether they stand.
    """

    access: ClassVar[Access] = Access.WEIGHTS

    method: Method = "fgsm"
    gradient: Gradient = "own"
    loss: Loss = "standardised"
    widths: tuple[Positive, ...] = (1.0, 3.0)
    shapes: tuple[Shape, ...] = ("arctan", "triangle")
    steps: Count = 20
    travel: Positive = 2.5
    encodings: Count = 4
    activation: Substitute = "clip"
    calibration_images: Count = 64
    batch_size: Annotated[int, Field(ge=1)] = 100

    def evade(self, target: nn.Module, context: AttackContext, images: Images) -> Adversarial:
        network = target.to(context.device).eval().requires_grad_(False)
        x = context.task.normalise(images.pixels.to(context.device))
        labels = images.labels.to(context.device)
        low, high = context.task.input_range
        box = Box(*context.task.around(x, self.epsilon), self.epsilon * (high - low))
        draws = torch.Generator(context.device).manual_seed(derived_seed(context.seed, "encodings", 0))
        noise = torch.rand(x.shape, generator=source(context.seed, "start")).to(x.device)
        starts = x if self.method == "fgsm" else box.inside(x + (2 * noise - 1) * box.reach)
        found, least = x.clone(), self._margins(network, x, labels, draws)
        standing = torch.arange(len(x), device=x.device)
        left: dict[str, int] = {}
        for name, logits_of in self._sources(network, context, draws):
            if not len(standing):
                break
            for batch in standing.split(self.batch_size):
                made = self._climb(logits_of, starts[batch], labels[batch], box.of(batch), context, draws)
                margins = self._margins(network, made, labels[batch], draws)
                # Of the first, all are kept but a repaired error: what is measured is what the attack does to images.
                better = margins < least[batch] if left else (margins < 0) | (least[batch] >= 0)
                found[batch[better]], least[batch[better]] = made[better], margins[better]
            standing = (least >= 0).nonzero()[:, 0]
            left[name] = len(standing)
        context.notes["images that stand after each gradient"] = left
        return Adversarial(found)

    def _climb(
        self,
        logits_of: Logits,
        start: Tensor,
        labels: Tensor,
        box: Box,
        context: AttackContext,
        draws: torch.Generator,
    ) -> Tensor:
        opened = partial(context.monitor.loop, f"{self.method} steps", draws=draws)
        slope = slope_of(logits_of, labels, self.loss)
        match self.method:
            case "fgsm":
                with opened(1, x=start.clone()) as loop:
                    for _ in loop:
                        loop.x = fgsm(slope, loop.x, box)
                return loop.x
            case "pgd":
                return pgd(slope, start, box, self.steps, self.travel / self.steps * box.reach, opened).best
            case "apgd":
                return apgd(slope, start, box, self.steps, opened).best

    def _sources(
        self, network: nn.Module, context: AttackContext, draws: torch.Generator
    ) -> Iterator[tuple[str, Logits]]:
        """What has a gradient, by name."""
        if not isinstance(network, SpikingNetwork):
            if self.gradient == "reconverted":
                raise NotApplicable("the target is an ANN: there is nothing to reconvert, its own gradient is exact")
            yield "the network itself", network
            return
        if self.gradient == "reconverted":
            low, high = context.task.input_range
            noise = low_frequency(self.calibration_images, context.task.image_shape, source(context.seed, "noise"))
            noise = noise.to(context.device) * (high - low) + low
            ann = rate_network(network, self.activation, noise, draws, calibrate=True)
            yield f"reconverted, {self.activation}", ann
            return
        yield "its own surrogate", self._through(network, None, draws)
        own = {(neuron.surrogate.shape, neuron.surrogate.width) for neuron in network.neurons.values()}
        for width, shape in product(self.widths, self.shapes):
            if own != {(shape, width)}:
                surrogate = Surrogate(shape, width, per_threshold=True)
                yield f"{shape} of width {width:g}", self._through(network, surrogate, draws)

    def _through(self, network: SpikingNetwork, surrogate: Surrogate | None, draws: torch.Generator) -> Logits:
        """The target's own logits with a gradient back to the image: other slopes change no spike."""
        copy = deepcopy(network)
        copy.encoder = StraightThrough.of(network.encoder)
        for neuron in copy.neurons.values():
            neuron.surrogate = surrogate or neuron.surrogate
        repeats = self.encodings if network.encoder.random else 1

        def logits_of(x: Tensor) -> Tensor:
            return torch.stack([copy(x, draws) for _ in range(repeats)]).mean(0)

        return logits_of

    @torch.no_grad()
    def _margins(self, network: nn.Module, x: Tensor, labels: Tensor, draws: torch.Generator) -> Tensor:
        """Of the target's own answers, [N]; below 0 it errs."""
        answer: Logits = network
        if isinstance(network, SpikingNetwork):
            answer = self._through(network, None, draws)
        return margin(torch.cat([answer(part) for part in x.split(self.batch_size)]), labels)


register_attack("evasion", Evasion)
