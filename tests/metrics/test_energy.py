"""The energy tables say what was counted, per accounting, and nothing divides by zero."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.metrics.energy import (
    ACCOUNTINGS,
    CONSTANTS,
    HEADLINE,
    OPERATIONS,
    PER_STEP,
    SPIKE_RATE,
    TOTAL,
    Constants,
    accumulates_needed,
    ann_energy_name,
    energy,
    ratio_name,
    snn_energy_name,
)
from audit.records import LayerOperations, Measurement


def layer(name: str = "conv1", ann: float = 1000, ac: float = 0, mac: float = 0, density: float = 0) -> LayerOperations:
    return LayerOperations(
        name=name,
        ann_multiply_accumulates=ann,
        accumulates=ac,
        multiply_accumulates=mac,
        input_density=density,
        spikes_per_neuron=None,
    )


# T = 10: a spiking layer at 20 % density, and a layer after average pooling at 50 %.
LAYERS = (layer("conv1", ann=1000, ac=1900, density=0.2), layer("fc1", ann=400, mac=2000, density=0.5))


def measured(layers: tuple[LayerOperations, ...] = LAYERS, time_steps: int = 10) -> dict[str, Measurement]:
    return {m.name: m for m in energy(layers, time_steps, images=50).measurements}


@pytest.mark.parametrize(
    ("accounting", "constants", "ann", "snn"),
    [
        (TOTAL, "45nm-float32", 1400 * 4.6, 1900 * 0.9 + 2000 * 4.6),
        (PER_STEP, "45nm-float32", 1400 * 4.6, (1900 * 0.9 + 2000 * 4.6) / 10),
        (SPIKE_RATE, "45nm-float32", 1400 * 4.6, (1000 * 0.2 + 400 * 0.5) * 10 * 0.9),
        (TOTAL, "45nm-int32", 1400 * 3.2, 1900 * 0.1 + 2000 * 3.2),
        (PER_STEP, "45nm-int32", 1400 * 3.2, (1900 * 0.1 + 2000 * 3.2) / 10),
        (SPIKE_RATE, "45nm-int32", 1400 * 3.2, (1000 * 0.2 + 400 * 0.5) * 10 * 0.1),
    ],
)
def test_every_column_is_the_hand_count(accounting: str, constants: str, ann: float, snn: float) -> None:
    column = measured()[ratio_name(accounting, constants)]
    assert column.value == pytest.approx(ann / snn)
    assert (column.unit, column.direction, column.status, column.n) == ("ratio", "higher is better", "ok", 50)


def test_the_spike_rate_is_that_of_the_neurons_before_a_layer_not_of_its_pooled_inputs() -> None:
    first = layer(ann=1000, ac=500, density=0.2).model_copy(update={"spikes_per_neuron": 3.0})
    second = layer("conv2", ann=400, mac=900, density=0.9)
    column = measured((first, second))[ratio_name(SPIKE_RATE)]
    assert column.value == pytest.approx(1400 * 4.6 / ((1000 * 0.2 * 10 + 400 * 3.0) * 0.9))


def test_picojoules_per_image_are_the_hand_count() -> None:
    table = measured()
    assert table[ann_energy_name("45nm-int32")].value == pytest.approx(1400 * 3.2)
    assert table[snn_energy_name("45nm-int32")].value == pytest.approx(1900 * 0.1 + 2000 * 3.2)
    assert table[snn_energy_name()].unit == "pJ"
    assert table[snn_energy_name()].direction == "lower is better"


def test_the_headline_is_what_a_battery_sees_in_float32() -> None:
    first = energy(LAYERS, 10, images=50).measurements[0]
    assert first.name == HEADLINE == ratio_name("total over T", "45nm-float32")
    table = measured()
    assert first.value == pytest.approx(table[ann_energy_name()].value / table[snn_energy_name()].value)


def test_there_is_one_ratio_per_accounting_and_constants_and_no_name_twice() -> None:
    names = [m.name for m in energy(LAYERS, 10, images=50).measurements]
    assert len(set(names)) == len(names) == len(ACCOUNTINGS) * len(CONSTANTS) + 2 * len(CONSTANTS) + 1


def test_only_the_accountings_that_are_no_total_carry_a_warning() -> None:
    table = measured()
    assert table[HEADLINE].reason is None
    assert "battery" in (table[ratio_name(PER_STEP)].reason or "")
    assert "estimate" in (table[ratio_name(SPIKE_RATE)].reason or "")


@pytest.mark.parametrize(("constants", "needed"), [("45nm-float32", 0.092), ("45nm-int32", 0.573)])
def test_the_published_ratio_needs_the_documented_accumulates(constants: str, needed: float) -> None:
    per_mac = accumulates_needed(55.8, CONSTANTS[constants])
    assert per_mac == pytest.approx(needed, abs=5e-4)
    table = measured((layer(ann=1e6, ac=per_mac * 1e6, density=0.001),), time_steps=150)
    assert table[ratio_name(TOTAL, constants)].value == pytest.approx(55.8)
    assert table[OPERATIONS].value == pytest.approx(per_mac)


def test_operations_per_multiply_accumulate_count_both_kinds() -> None:
    assert measured()[OPERATIONS].value == pytest.approx(3900 / 1400)


@given(st.integers(1, 500), st.floats(0.01, 1), st.integers(1, 10**9))
def test_spikes_everywhere_alike_make_the_estimate_exact(time_steps: int, density: float, ann: int) -> None:
    table = measured((layer(ann=ann, ac=ann * density * time_steps, density=density),), time_steps)
    for constants in CONSTANTS:
        total, estimate = (table[ratio_name(accounting, constants)].value for accounting in (TOTAL, SPIKE_RATE))
        assert estimate == pytest.approx(total)
        assert table[ratio_name(PER_STEP, constants)].value == pytest.approx(time_steps * total)


@given(st.permutations(LAYERS))
def test_the_order_of_the_layers_does_not_matter(layers: list[LayerOperations]) -> None:
    assert energy(layers, 10, 50).measurements == energy(LAYERS, 10, 50).measurements


def test_a_graded_input_costs_more_than_a_spike() -> None:
    spiking, graded = measured((layer(ac=500, density=0.1),)), measured((layer(mac=500, density=0.1),))
    assert graded[snn_energy_name()].value > spiking[snn_energy_name()].value


def test_a_silent_network_is_undefined_and_not_infinitely_efficient() -> None:
    table = measured((layer(ann=1000),))
    for name, column in table.items():
        if name.startswith("energy of the ANN"):
            assert column.status == "ok"
        else:
            assert (column.value, column.status) == (None, "undefined")
            assert column.reason == "no synaptic operation in the SNN: it is silent"


def test_an_ann_without_operations_is_undefined_and_not_free() -> None:
    table = measured((layer(ann=0, ac=10, density=0.5),))
    assert {m.status for name, m in table.items() if "ratio" in name or name == OPERATIONS} == {"undefined"}
    assert table[ann_energy_name()].reason == "no multiply-accumulate in the ANN"
    assert table[snn_energy_name()].value == pytest.approx(9)


@pytest.mark.parametrize(
    ("layers", "time_steps", "images", "message"),
    [
        ((), 10, 50, "no layers"),
        (LAYERS, 0, 50, "at least 1"),
        (LAYERS, 10, 0, "at least 1"),
        ((layer("fc1", ac=-1),), 10, 50, "'fc1': accumulates must be finite and not negative, not -1"),
        ((layer("fc1", mac=math.nan),), 10, 50, "'fc1': multiply_accumulates"),
        ((layer("fc1", density=1.5),), 10, 50, "'fc1': input_density"),
    ],
)
def test_counts_that_cannot_be_are_refused(
    layers: tuple[LayerOperations, ...], time_steps: int, images: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        energy(layers, time_steps, images)


def test_constants_are_the_published_ones() -> None:
    assert dict(CONSTANTS) == {"45nm-float32": Constants(4.6, 0.9), "45nm-int32": Constants(3.2, 0.1)}
    with pytest.raises(ValueError, match="positive"):
        accumulates_needed(0, CONSTANTS["45nm-int32"])
