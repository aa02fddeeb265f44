"""Surrogate derivatives of the spike 1[u > theta] with respect to the membrane potential u."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

Shape = Literal["triangle", "rectangle", "arctan", "sigmoid"]


@dataclass(frozen=True)
class Surrogate:
    """d(spike)/du as a function of d = (u - theta) / (width * theta).

    ``triangle`` with width 1 and gain 1 is Eq. 5 of PrivateSNN, max(0, 1 - |u / theta - 1|); its published code
    multiplies by a gain of 0.3. With ``per_threshold`` the result is divided by theta, the convention of libraries
    that normalise the potential first.
    """

    shape: Shape = "triangle"
    width: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    gain: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    per_threshold: bool = False

    def __call__(self, potential: Tensor, threshold: Tensor) -> Tensor:
        """Slope at ``potential`` (any shape); ``threshold`` > 0 broadcasts against it."""
        distance = (potential - threshold) / (self.width * threshold)
        match self.shape:
            case "triangle":
                slope = (1 - distance.abs()).clamp_(min=0)
            case "rectangle":
                slope = (distance.abs() <= 0.5).to(potential.dtype)
            case "arctan":
                slope = 1 / (1 + (math.pi / 2 * distance).square())
            case "sigmoid":
                squashed = torch.sigmoid(4 * distance)
                slope = 4 * squashed * (1 - squashed)
        if self.gain != 1:
            slope = slope * self.gain
        return slope / threshold if self.per_threshold else slope
