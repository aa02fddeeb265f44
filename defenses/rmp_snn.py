"""RMP-SNN: conversion with a residual membrane potential and thresholds below the maximum."""

from dataclasses import dataclass

from audit.registry import register_defense
from audit.spiking.settings import Positive
from defenses.conversion import RealDataConversion


@dataclass(frozen=True)
class ResidualMembranePotential(RealDataConversion):
    """Threshold balancing below the maximum, reset by subtraction: RMP-SNN (Han, Srinivasan and Roy, CVPR 2020).

    A reset by subtraction keeps the residual potential, so that a neuron's rate follows its current up to one spike per
    time-step, and the threshold may lie below the largest current: spikes come earlier. ``threshold_scale`` is the
    share of the maximum, or of the ``threshold_percentile`` that stands for it; the paper tunes it per network, and 0.7
    is ours. `conversion` has the same neuron, with the whole threshold.
    """

    threshold_scale: Positive = 0.7


register_defense("rmp-snn", ResidualMembranePotential)
