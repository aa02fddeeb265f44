"""Thresholds are the maxima that Sengupta 2019 asks for, and the converted network follows its teacher."""

import numpy as np
import pytest
import torch

from audit.errors import AuditError
from audit.networks.training import predict
from audit.spiking.conversion import balance_thresholds, match_output_scale
from audit.spiking.encoding import Coding, Encoder
from audit.spiking.network import SpikingNetwork
from audit.spiking.simulation import Execution
from audit.spiking.twin import spiking_twin
from tests.networks.teachers import TASK, generator, rand, small_ann, tiny_teacher
from tests.oracles.simulation import thresholds

X = rand(5, 2, 6, 6)


def twin(coding: Coding = "rate", steps: int = 9, leak: float = 1.0) -> SpikingNetwork:
    return spiking_twin(small_ann(), Encoder(coding), steps, leak)


@pytest.mark.parametrize("coding", ["rate", "direct"])
@pytest.mark.parametrize("leak", [1.0, 0.8])
@pytest.mark.parametrize("budget", [1, 10**9])
def test_thresholds_are_the_largest_currents_of_a_loop_over_all_steps_and_images(
    coding: Coding, leak: float, budget: int
) -> None:
    network = twin(coding, leak=leak)
    network.execution = Execution(memory=budget)
    found = balance_thresholds(network, X, seed=4, batch_size=2)
    source, expected = generator(4), twin(coding, leak=leak)
    trains = [network.encoder(batch, 9, source) for batch in X.split(2)]
    with torch.no_grad():
        assert found == pytest.approx(thresholds(expected, trains), rel=1e-5)
    assert found == {name: float(neuron.threshold) for name, neuron in network.neurons.items()}


@pytest.mark.parametrize("again", [False, True])
def test_a_network_with_biases_comes_to_the_logits_of_its_ann_also_when_balanced_again(again: bool) -> None:
    ann, network = small_ann(), twin("direct", steps=2000)
    assert ann.conv2.bias is not None
    balance_thresholds(network, X, seed=0)
    if again:
        balance_thresholds(network, X, seed=0, scale=1.7)
    factor = float(torch.stack([neuron.threshold for neuron in network.neurons.values()]).prod())
    with torch.no_grad():
        torch.testing.assert_close(network(X) * factor / 2000, ann(X), rtol=0.02, atol=0.01)


def test_the_batch_size_changes_nothing_under_direct_coding() -> None:
    assert balance_thresholds(twin("direct"), X, seed=0, batch_size=1) == pytest.approx(
        balance_thresholds(twin("direct"), X, seed=0, batch_size=5), rel=1e-6
    )


def test_a_percentile_is_that_of_the_positive_peaks() -> None:
    # The peaks of the first layer, under direct coding, are the teacher's own currents.
    currents = small_ann()[0](X).detach().flatten().numpy()
    positive = np.sort(currents[currents > 0])
    for percentile in (10, 50, 99, 99.99):
        found = balance_thresholds(twin("direct"), X, seed=0, percentile=percentile)["relu1"]
        assert np.isclose(positive, found).any()
        assert np.mean(positive <= found + 1e-6) == pytest.approx(percentile / 100, abs=1 / len(positive))


def test_the_scale_multiplies_the_threshold_and_acts_on_the_layers_behind() -> None:
    plain, scaled = (balance_thresholds(twin(), X, seed=0, scale=scale) for scale in (1.0, 0.5))
    assert scaled["relu1"] == pytest.approx(plain["relu1"] / 2)
    assert scaled["relu2"] > plain["relu2"] / 2, "twice the spikes of the first layer left the second one's input alone"


def test_thresholds_follow_the_seed_only() -> None:
    torch.manual_seed(1)
    first = balance_thresholds(twin(), X, seed=0)
    torch.manual_seed(2)
    assert balance_thresholds(twin(), X, seed=0) == first
    assert balance_thresholds(twin(), X, seed=1) != first


def test_dropout_plays_no_part() -> None:
    with_dropout = spiking_twin(small_ann(dropout=0.5), Encoder("direct"), 9).train()
    assert balance_thresholds(with_dropout, X, seed=0) == balance_thresholds(twin("direct"), X, seed=0)


@pytest.mark.parametrize("percentile", [100.0, 99.0])
def test_a_layer_without_any_positive_current_is_an_error_that_names_it(percentile: float) -> None:
    with pytest.raises(AuditError, match="'relu1' received no positive current in 9 time-steps of 2 images") as error:
        balance_thresholds(twin(), torch.zeros(2, 2, 6, 6), seed=0, percentile=percentile)
    assert "use more time-steps or more images" in str(error.value)


def test_too_few_time_steps_for_a_layer_are_an_error_that_names_it() -> None:
    # At the first step no current exceeds the largest one: the first layer is silent, and the second gets nothing.
    network = spiking_twin(tiny_teacher(), Encoder("direct"), 1)
    with pytest.raises(AuditError, match="'relu2' received no positive current in 1 time-steps of 5 images"):
        balance_thresholds(network, rand(5, *TASK.image_shape), seed=0)


def test_the_converted_network_approaches_its_teacher_as_time_passes() -> None:
    teacher, images = tiny_teacher(), rand(8, *TASK.image_shape)
    expected = predict(teacher, images)
    deviations = []
    for steps in (32, 128, 1024):
        network = spiking_twin(teacher, Encoder("rate"), steps)
        balance_thresholds(network, images, seed=0)
        with torch.no_grad():
            match_output_scale(network, teacher, images, seed=1)
            logits = network(images, generator(2))
        deviations.append(float((logits - expected).norm() / expected.norm()))
    assert deviations[0] > 2 * deviations[1] > 4 * deviations[2], deviations
    assert deviations[2] < 0.1, deviations


def test_the_output_scale_is_the_least_squares_one() -> None:
    network, ann = twin(steps=40), small_ann()
    balance_thresholds(network, X, seed=0, scale=0.5)
    network.output_scale.fill_(123.0)
    scale = match_output_scale(network, ann, X, seed=3, batch_size=5)
    assert float(network.output_scale) == pytest.approx(scale)
    network.output_scale.fill_(1.0)
    with torch.no_grad():
        spiking, analog = network(X, generator(3)).flatten().numpy(), ann(X).flatten().numpy()
    (expected,), *_ = np.linalg.lstsq(spiking[:, None], analog, rcond=None)
    assert scale == pytest.approx(expected, rel=1e-4)


def test_an_output_opposed_to_the_teachers_is_an_error() -> None:
    network = twin(steps=40)
    balance_thresholds(network, X, seed=0, scale=0.5)
    opposed = small_ann()
    with torch.no_grad():
        opposed.fc.weight.neg_()  # type: ignore[operator, union-attr]
        opposed.fc.bias.neg_()  # type: ignore[operator, union-attr]
    with pytest.raises(AuditError, match="does not follow the teacher's after 40 time-steps"):
        match_output_scale(network, opposed, X, seed=0)
