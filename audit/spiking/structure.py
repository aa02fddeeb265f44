"""The structural parameters of a spiking network, and the two ways to read a triple of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from audit.errors import AuditError

Decay = Literal["exponential", "euler"]
Threshold = Literal["firing_threshold", "threshold_scale"]


@dataclass(frozen=True)
class Structure:
    """The values of three settings: threshold, surrogate gain, and leak, the factor of the potential per time-step.

    ``threshold`` is in the potential's own unit where a network is trained (`firing_threshold`), and a factor of what
    balancing finds where it is converted (`threshold_scale`).
    """

    threshold: float
    gain: float
    leak: float

    def settings(self, threshold: Threshold = "firing_threshold") -> dict[str, float]:
        """Setting -> value, for a defense whose threshold has this name."""
        return {threshold: self.threshold, "surrogate_gain": self.gain, "leak": self.leak}


def leak_of(tau: float, decay: Decay = "exponential") -> float:
    """The leak of a membrane time constant ``tau`` > 0, in time-steps.

    ``exponential``: e^(-1 / tau), the solution of tau du/dt = -u after one time-step. ``euler``: 1 - 1 / tau, its
    approximation by one Euler step, for tau >= 1. The current is not scaled by 1 / tau, as some libraries have it
    (SpikingJelly's ``decay_input``): where it is, that is the same neuron with tau times the threshold.
    """
    if not (tau > 0 and math.isfinite(tau)) or (decay == "euler" and tau < 1):
        raise AuditError(
            f"a membrane time constant of {tau:g} time-steps has no leak in [0, 1]: "
            + ("1 - 1 / tau needs tau >= 1" if decay == "euler" else "e^(-1 / tau) needs tau > 0")
        )
    return math.exp(-1 / tau) if decay == "exponential" else 1 - 1 / tau


def readings(triple: tuple[float, float, float]) -> Mapping[str, Structure]:
    """What a triple such as '0.4, 1.0, 0.5' of the quantisation paper can mean, which does not name its parameters.

    (threshold, gain, leak); or (threshold, tau, gamma), gamma the gain of the surrogate gradient, with the leak of tau
    by either formula. With tau = 1 these are e^-1 and 0: the second is a neuron without memory.
    """
    first, second, third = triple
    read = {"threshold, gain, leak": Structure(first, second, third)}
    read["threshold, tau, gamma; leak = exp(-1/tau)"] = Structure(first, third, leak_of(second))
    if second >= 1:
        read["threshold, tau, gamma; leak = 1 - 1/tau"] = Structure(first, third, leak_of(second, "euler"))
    return read
