"""The coder of a target with the gradient of the identity, for coders that have none of their own."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from audit.spiking.encoding import Encoder


@dataclass(frozen=True)
class StraightThrough(Encoder):
    """The same spikes; backwards every time-step hands its gradient to the image as it is.

    Backward-pass differentiable approximation (BPDA: Athalye, Carlini, Wagner, ICML 2018), with the identity in the
    place of the coder: exact for direct coding, E[spike] = x for rate coding. A phase's bit and a latency's time jump,
    and so this says only which way more input moves the answer, which is all that the sign of a gradient is used for.
    """

    @classmethod
    def of(cls, encoder: Encoder) -> "StraightThrough":
        return cls(**{field.name: getattr(encoder, field.name) for field in fields(Encoder)})

    @property
    def differentiable(self) -> bool:
        return True

    def __call__(
        self, x: Tensor, steps: int, generator: torch.Generator | None, start: int = 0, window: int | None = None
    ) -> Tensor:
        """As of `Encoder`."""
        coded = super().__call__(x.detach(), steps, generator, start, window)
        through = x.expand(steps, *x.shape)
        return coded + (through - through.detach()) if x.requires_grad else coded
