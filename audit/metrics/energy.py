"""Energy per image of the spiking network and of the ANN it came from, out of counted synaptic operations.

One energy model, in the manner of Panda, Aketi and Roy (Frontiers in Neuroscience 14, 2020), which PrivateSNN follows:
the arithmetic of the weight layers only; no memory access, no membrane update, no pooling, no control.
A column of the energy table is one set of constants and one accounting.

Constants, pJ in a 45 nm process (Horowitz, ISSCC 2014; a multiply-accumulate is a multiplication and an addition):

- '45nm-float32': 4.6 per multiply-accumulate, 0.9 per accumulate;
- '45nm-int32': 3.2 and 0.1, the set that flatters an SNN, and fits one that really computes in integers.

Accountings, of the SNN; the ANN is always all its multiply-accumulates:

- 'total over T': every operation of all time-steps, an accumulate for a binary or signed event, a multiply-accumulate
  for a graded input (after average pooling, or direct or phase coding). **This is what a battery sees.**
- 'mean per time-step': the total over T divided by T. One image takes T of them.
- 'spike rate x ANN operations': a layer's multiply-accumulates in the ANN, times the spikes per neuron over all T of
  the layer before it (the first layer: non-zero coded inputs per input), each an accumulate. The literature's estimate:
  it ignores pooling, and takes every input for the layer's average one, border or not.

Which one a published ratio used decides what it says. With accumulates only, a ratio x needs E_MAC / (x E_AC)
accumulates per multiply-accumulate of the ANN: PrivateSNN's x55.8 (Table 5) would need 0.092 with the first constants
and 0.573 with the second, and the paper does not say which. The headline here is 'total over T' with '45nm-float32'.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple

from audit.metrics.statistics import without_value
from audit.records import Direction, Energy, LayerOperations, Measurement


class Constants(NamedTuple):
    """pJ per operation."""

    multiply_accumulate: float
    accumulate: float


CONSTANTS: Mapping[str, Constants] = MappingProxyType(
    {"45nm-float32": Constants(4.6, 0.9), "45nm-int32": Constants(3.2, 0.1)}
)

TOTAL = "total over T"
PER_STEP = "mean per time-step"
SPIKE_RATE = "spike rate x ANN operations"


def ratio_name(accounting: str = TOTAL, constants: str = "45nm-float32") -> str:
    """The name of the measurement E_ANN / E_SNN in one column of the energy table."""
    return f"energy ratio ANN/SNN, {accounting}, {constants}"


def ann_energy_name(constants: str = "45nm-float32") -> str:
    return f"energy of the ANN, {constants}"


def snn_energy_name(constants: str = "45nm-float32") -> str:
    return f"energy of the SNN, {TOTAL}, {constants}"


HEADLINE = ratio_name()
OPERATIONS = "synaptic operations per ANN multiply-accumulate"


def energy(layers: Sequence[LayerOperations], time_steps: int, images: int) -> Energy:
    """Energy per image from each layer's operations per image, summed over ``time_steps``, mean over ``images`` images.

    Measurements, in this order: E_ANN / E_SNN for each accounting and each set of constants (unit 'ratio', higher is
    better; the first is `HEADLINE`); pJ per image of the ANN and of the SNN in total over T (lower is better); and
    the SNN's operations of both kinds per multiply-accumulate of the ANN, in total over T (`OPERATIONS`).
    A side without any operation, a silent network, makes what depends on it 'undefined', neither 0 nor infinite.
    No intervals: the counts come as means over images, without their spread.
    Raises ValueError for no layers, time_steps or images below 1, counts that are negative or not finite, or an input
    density outside [0, 1].
    """
    _check(layers, time_steps, images)
    measurements = [
        _ratio(accounting, name, layers, time_steps, images) for name in CONSTANTS for accounting in ACCOUNTINGS
    ]
    for name, constants in CONSTANTS.items():
        ann, snn = ann_picojoules(layers, constants), total_picojoules(layers, time_steps, constants)
        measurements.append(_picojoules(ann_energy_name(name), ann, NO_ANN_OPERATION, images))
        measurements.append(_picojoules(snn_energy_name(name), snn, NO_SNN_OPERATION, images))
    measurements.append(_operations(layers, images))
    return Energy(time_steps=time_steps, images=images, layers=tuple(layers), measurements=tuple(measurements))


def ann_picojoules(layers: Sequence[LayerOperations], constants: Constants) -> float:
    return constants.multiply_accumulate * math.fsum(layer.ann_multiply_accumulates for layer in layers)


def total_picojoules(layers: Sequence[LayerOperations], time_steps: int, constants: Constants) -> float:
    """Of the SNN: the counts are sums over all time-steps already."""
    accumulates = math.fsum(layer.accumulates for layer in layers)
    graded = math.fsum(layer.multiply_accumulates for layer in layers)
    return constants.accumulate * accumulates + constants.multiply_accumulate * graded


def per_step_picojoules(layers: Sequence[LayerOperations], time_steps: int, constants: Constants) -> float:
    """Of the SNN, in the mean time-step."""
    return total_picojoules(layers, time_steps, constants) / time_steps


def spike_rate_picojoules(layers: Sequence[LayerOperations], time_steps: int, constants: Constants) -> float:
    """Of the SNN, estimated: a layer's ANN operations times the spikes per neuron, over all T, of the layer before it.

    The first layer's input is the coded image. Pooling between the two is ignored, as the literature does.
    """
    rates = [layers[0].input_density * time_steps]
    for before, layer in pairwise(layers):
        spikes = before.spikes_per_neuron
        rates.append(layer.input_density * time_steps if spikes is None else spikes)
    events = (layer.ann_multiply_accumulates * rate for layer, rate in zip(layers, rates, strict=True))
    return constants.accumulate * math.fsum(events)


ACCOUNTINGS: Mapping[str, Callable[[Sequence[LayerOperations], int, Constants], float]] = MappingProxyType(
    {TOTAL: total_picojoules, PER_STEP: per_step_picojoules, SPIKE_RATE: spike_rate_picojoules}
)

NO_ANN_OPERATION = "no multiply-accumulate in the ANN"
NO_SNN_OPERATION = "no synaptic operation in the SNN: it is silent"

# What to keep in mind reading a column: it travels with the number.
REMARKS: Mapping[str, str] = MappingProxyType(
    {
        PER_STEP: "one time-step of many: a battery sees the total over T",
        SPIKE_RATE: "estimate: every input spikes at the mean rate of the layer before it, pooling ignored",
    }
)


def accumulates_needed(ratio: float, constants: Constants) -> float:
    """Accumulates per multiply-accumulate of the ANN that give E_ANN / E_SNN = ``ratio``, without graded inputs.

    Raises ValueError unless ``ratio`` is positive.
    """
    if not ratio > 0:
        raise ValueError(f"an energy ratio is positive, not {ratio}")
    return constants.multiply_accumulate / (ratio * constants.accumulate)


def _ratio(accounting: str, name: str, layers: Sequence[LayerOperations], time_steps: int, images: int) -> Measurement:
    ann = ann_picojoules(layers, CONSTANTS[name])
    snn = ACCOUNTINGS[accounting](layers, time_steps, CONSTANTS[name])
    return _quotient(ratio_name(accounting, name), ann, snn, _idle(ann, snn), images, "higher is better", accounting)


def _operations(layers: Sequence[LayerOperations], images: int) -> Measurement:
    snn = math.fsum(layer.accumulates + layer.multiply_accumulates for layer in layers)
    ann = math.fsum(layer.ann_multiply_accumulates for layer in layers)
    return _quotient(OPERATIONS, snn, ann, _idle(ann, snn), images, "lower is better", TOTAL)


def _idle(ann: float, snn: float) -> str | None:
    """The reason why a comparison of the two has no value, if there is one."""
    if ann == 0:
        return NO_ANN_OPERATION
    return NO_SNN_OPERATION if snn == 0 else None


def _quotient(
    name: str, above: float, below: float, idle: str | None, images: int, direction: Direction, accounting: str
) -> Measurement:
    if idle:
        return without_value(name, images, "ratio", direction, "undefined", idle)
    remark = REMARKS.get(accounting)
    return Measurement(
        name=name, value=above / below, interval=None, n=images, unit="ratio", direction=direction, reason=remark
    )


def _picojoules(name: str, value: float, idle: str, images: int) -> Measurement:
    if value == 0:
        return without_value(name, images, "pJ", "lower is better", "undefined", idle)
    return Measurement(
        name=name, value=value, interval=None, n=images, unit="pJ", direction="lower is better", reason=None
    )


def _check(layers: Sequence[LayerOperations], time_steps: int, images: int) -> None:
    if not layers:
        raise ValueError("no layers: nothing was counted")
    if time_steps < 1 or images < 1:
        raise ValueError(f"time_steps and images must be at least 1, not {time_steps} and {images}")
    for layer in layers:
        for field in ("ann_multiply_accumulates", "accumulates", "multiply_accumulates"):
            count = getattr(layer, field)
            if not (math.isfinite(count) and count >= 0):
                raise ValueError(f"layer '{layer.name}': {field} must be finite and not negative, not {count}")
        if not 0 <= layer.input_density <= 1:
            raise ValueError(f"layer '{layer.name}': input_density must lie in [0, 1], not {layer.input_density}")
