"""Triples of structural parameters are read both ways, and a time constant becomes a leak."""

import math

import pytest

from audit.errors import AuditError
from audit.registry import DEFENSES
from audit.settings import Settings
from audit.spiking.structure import Structure, leak_of, readings

TRIPLE = (0.4, 1.0, 0.5)


def test_the_papers_triple_is_read_as_threshold_gain_and_leak() -> None:
    assert readings(TRIPLE)["threshold, gain, leak"] == Structure(threshold=0.4, gain=1.0, leak=0.5)


def test_it_is_read_as_threshold_time_constant_and_gamma_as_well() -> None:
    exponential, euler = list(readings(TRIPLE).values())[1:]
    assert exponential == Structure(threshold=0.4, gain=0.5, leak=math.exp(-1))
    assert euler == Structure(threshold=0.4, gain=0.5, leak=0.0)


def test_the_euler_step_is_no_reading_of_a_time_constant_below_one_step() -> None:
    assert [name for name in readings((0.4, 0.5, 0.5)) if "tau" in name] == [
        "threshold, tau, gamma; leak = exp(-1/tau)"
    ]


@pytest.mark.parametrize("tau", [1.0, 2.0, 10.0, 1e4])
def test_a_long_time_constant_leaks_little_by_both_formulas(tau: float) -> None:
    exponential, euler = leak_of(tau), leak_of(tau, "euler")
    assert 0 <= euler < exponential < 1
    assert exponential - euler < 1 / tau**2


@pytest.mark.parametrize("tau", [0.0, -1.0, float("nan"), float("inf")])
def test_no_time_constant_is_refused(tau: float) -> None:
    with pytest.raises(AuditError, match="has no leak"):
        leak_of(tau)


def test_a_time_constant_below_one_step_has_no_euler_leak() -> None:
    with pytest.raises(AuditError, match=r"0\.5 time-steps has no leak in \[0, 1\]: 1 - 1 / tau needs tau >= 1"):
        leak_of(0.5, "euler")


@pytest.mark.parametrize("reading", list(readings(TRIPLE)))
def test_every_reading_can_be_set_for_trained_and_for_converted_networks(reading: str) -> None:
    structure = readings(TRIPLE)[reading]
    trained = {f"defense.{name}": str(value) for name, value in structure.settings().items()}
    component = Settings({}, trained).build(DEFENSES.get("quantized"))
    neuron = component.neuron
    assert float(neuron.threshold) == pytest.approx(structure.threshold)
    assert (neuron.surrogate.gain, neuron.leak) == (structure.gain, structure.leak)

    converted = {f"defense.{name}": str(value) for name, value in structure.settings("threshold_scale").items()}
    for name in ("quantized-conversion", "quantized-privatesnn"):
        built = Settings({}, converted).build(DEFENSES.get(name))
        assert (built.threshold_scale, built.slope.gain, built.leak) == (0.4, structure.gain, structure.leak)
