"""A neuron of the Neuromorphic Intermediate Representation, which is continuous in time, as the neuron of our steps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audit.spiking.neuron import Reset
from audit.spiking.nir_chain import Node, Numbers

NEURONS = {"IF": ("r", "v_threshold"), "LIF": ("r", "v_threshold", "tau")}  # and what each must say
ROUNDING = 1e-6  # exporters compute in float32


@dataclass(frozen=True)
class Neuron:
    """The settings of `audit.spiking.neuron.LIF`: ``threshold`` is one number, [], or one per channel, [C, 1, ...]."""

    leak: float
    reset: Reset
    threshold: Numbers


def neuron_of(node: Node, shape: Sequence[int], dt: float, reset: Reset) -> Neuron:
    """An IF or a LIF for neurons [C, ...] in time-steps of ``dt``; ``reset`` where its metadata does not say it.

    Euler's method on tau dv/dt = v_leak - v + r I with v_leak = 0 is v <- (1 - dt/tau) v + (r dt/tau) I, a spike where
    v > v_threshold. In u = v / (r dt/tau) it is our neuron with leak 1 - dt/tau and threshold v_threshold / (r dt/tau);
    an IF, dv/dt = r I, has leak 1 and the factor r dt. A factor within ROUNDING of 1 is 1. Raises AuditError naming the
    node and the field that our neuron does not have.
    """
    for name in NEURONS[node.kind]:
        _check_shape(node, name, shape)
    for name in ("v_reset", *(("v_leak",) if node.kind == "LIF" else ())):
        if node.numbers(name, 0.0).any():
            raise node.refusal("it is not 0 everywhere; here a potential leaks to 0 and is reset to 0", name)
    for name in ("r", "v_threshold"):
        if not (node.numbers(name) > 0).all():
            raise node.refusal("it is not above 0", name)
    step = _step(node, dt) if node.kind == "LIF" else np.asarray(dt)
    gain = node.numbers("r") * step
    gain = np.where(np.abs(gain - 1) < ROUNDING, 1.0, gain)
    leak = max(0.0, round(1 - float(step.flat[0]), 12)) if node.kind == "LIF" else 1.0
    said = node.metadata.get("reset", reset)
    if said not in ("soft", "hard"):
        raise node.refusal(f"its reset is 'soft' or 'hard', not {str(said)[:20]!r}", "metadata")
    return Neuron(leak, said, _per_channel(node, node.numbers("v_threshold") / gain, shape))


def _step(node: Node, dt: float) -> Numbers:
    """dt/tau, the same for all neurons up to rounding."""
    tau = node.numbers("tau")
    if not (tau >= dt * (1 - ROUNDING)).all():
        raise node.refusal(
            f"{tau.min():.4g} is below the time-step dt = {dt:g}, and the leak would be negative; dt is the exporter's",
            "tau",
        )
    step = dt / tau
    if np.ptp(step) > ROUNDING:
        raise node.refusal("it differs between neurons; a layer has one leak", "tau")
    return step


def _check_shape(node: Node, name: str, shape: Sequence[int]) -> None:
    found = node.numbers(name).shape
    fits = len(found) == len(shape) and all(n in (1, of) for n, of in zip(found, shape, strict=True))
    if node.numbers(name).size != 1 and not fits:
        raise node.refusal(f"it is {found} for neurons {tuple(shape)}", name)


def _per_channel(node: Node, threshold: Numbers, shape: Sequence[int]) -> Numbers:
    if (threshold == threshold.flat[0]).all():
        return threshold.flatten()[:1].reshape(())
    channels = np.broadcast_to(threshold, shape).reshape(shape[0], -1)
    if (channels != channels[:, :1]).any():
        raise node.refusal("it differs within a channel; a layer has one, or one per channel", "v_threshold")
    return channels[:, :1].reshape(-1, *(1 for _ in shape[1:]))
