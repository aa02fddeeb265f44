"""The folded simulation is the plain one, depends on nothing hidden, and lets gradients through."""

from collections import OrderedDict
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import audit.spiking.simulation as engine
from audit.networks.vgg import vgg
from audit.spiking.activity import Activity
from audit.spiking.budget import TimePlan
from audit.spiking.conversion import balance_thresholds
from audit.spiking.encoding import Coding, Encoder
from audit.spiking.network import SpikingNetwork
from audit.spiking.simulation import Execution
from audit.spiking.twin import spiking_twin
from tests.networks.teachers import generator, rand, small_ann, small_snn
from tests.oracles.simulation import deconvolved_gradient, run

Reset = Literal["soft", "hard"]
X = rand(3, 2, 6, 6)


@pytest.mark.parametrize("coding", ["rate", "direct"])
@pytest.mark.parametrize(("leak", "reset"), [(1.0, "soft"), (0.8, "soft"), (0.9, "hard")])
def test_the_logits_are_those_of_a_loop_over_time_steps(coding: Coding, leak: float, reset: Reset) -> None:
    network = small_snn(coding, 7, leak, reset)
    activity = Activity()
    with torch.no_grad():
        train = network.encoder(X, 7, generator(1))
        logits = network.outputs_over_time(X, [7], generator(1), activity)[0]
        torch.testing.assert_close(logits, run(network, train).sum(0))
    assert min(activity.spikes.values()) > 20, "the test says nothing about a network that does not spike"


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(["rate", "direct"]), st.integers(1, 9), st.integers(1, 9), st.booleans(),
    st.sampled_from([1.0, 0.7]), st.sampled_from(["soft", "hard"]),
)  # fmt: skip
def test_the_cutting_of_time_never_changes_a_logit_a_spike_or_a_gradient(
    coding: Coding, steps: int, chunk: int, recompute: bool, leak: float, reset: Reset
) -> None:
    network, results = small_snn(coding, steps, leak, reset), []
    for plan in (TimePlan.of(steps, steps, False), TimePlan.of(steps, chunk, recompute)):
        x, activity = X.clone().requires_grad_(), Activity()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "plan_time", lambda *_, plan=plan: plan)
            logits = network.outputs_over_time(x, [steps], generator(2), activity)[0]
            logits[:, 1].sum().backward()
        assert x.grad is not None
        results.append((logits.detach(), x.grad, activity))
    (logits, gradient, activity), (logits_2, gradient_2, activity_2) = results
    torch.testing.assert_close(logits_2, logits)
    torch.testing.assert_close(gradient_2, gradient)
    assert activity_2.spikes == activity.spikes
    assert all(torch.equal(activity_2.inputs[name], events) for name, events in activity.inputs.items())


def test_the_gradients_of_all_weights_are_those_of_plain_autograd_through_time() -> None:
    network, classes = small_snn("rate", 6, leak=0.9), torch.tensor([0, 1, 2])
    train = network.encoder(X, 6, generator(3))
    ours, plain = (
        torch.autograd.grad(nn.functional.cross_entropy(logits, classes), list(network.parameters()))
        for logits in (network(X, generator(3)), run(network, train).sum(0))
    )
    for gradient, expected in zip(ours, plain, strict=True):
        assert expected.count_nonzero() > 0
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("stride", "features"), [(1, 36), (2, 16)])
def test_the_input_gradient_is_the_deconvolution_of_algorithm_3(stride: int, features: int) -> None:
    network, classes = small_snn("rate", 8), torch.tensor([2, 0, 1])
    network.layers[0] = nn.Conv2d(2, 4, 3, stride=stride, padding=1, bias=False)
    network.layers[-1] = nn.Linear(features, 3)
    x = rand(3, 2, 7, 7).requires_grad_()
    mean = network(x, generator(4)) / network.time_steps
    (ours,) = torch.autograd.grad(mean.gather(1, classes[:, None]).sum(), x)
    expected = deconvolved_gradient(network, network.encoder(x.detach(), 8, generator(4)), classes)
    assert expected.count_nonzero() > 0
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_one_run_gives_the_logits_of_every_shorter_run() -> None:
    network = small_snn("rate", 9)
    network.output_scale.fill_(0.25)
    over_time = network.outputs_over_time(X, [1, 4, 9], generator(5))
    for logits, steps in zip(over_time, [1, 4, 9], strict=True):
        torch.testing.assert_close(logits, network(X, generator(5), steps))


def test_logits_are_the_scaled_sum_and_estimate_the_same_mean_after_fewer_steps() -> None:
    network = small_snn("direct", 10)
    total = run(network, network.encoder(X, 10, None)).cumsum(0)
    network.output_scale.fill_(0.3)
    torch.testing.assert_close(network(X), 0.3 * total[9])
    torch.testing.assert_close(network(X, time_steps=4), 0.3 * total[3] * 10 / 4)


def test_a_call_leaves_nothing_behind() -> None:
    network = small_snn("rate", 6)
    global_state = torch.get_rng_state()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    first = network(X, generator(6))
    network(-X, generator(7))
    assert torch.equal(network(X, generator(6)), first)
    assert torch.equal(torch.get_rng_state(), global_state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("coding", ["rate", "direct"])
def test_without_dropout_logits_and_input_gradients_are_the_same_in_train_and_eval(coding: Coding) -> None:
    network, seen = small_snn(coding, 6), []
    for mode in (True, False):
        x = X.clone().requires_grad_()
        logits = network.train(mode)(x, generator(8))
        logits[:, 0].sum().backward()
        assert x.grad is not None
        seen.append((logits.detach(), x.grad))
    assert torch.equal(seen[0][0], seen[1][0])
    assert torch.equal(seen[0][1], seen[1][1])
    assert seen[0][1].count_nonzero() > 0


@pytest.mark.parametrize("budget", [1, 10**9])
def test_dropout_keeps_one_mask_per_image_for_all_time_steps(budget: int) -> None:
    readout = nn.Linear(64, 64, bias=False)
    nn.init.eye_(readout.weight)
    layers = nn.Sequential(OrderedDict(flatten=nn.Flatten(), drop=nn.Dropout(0.25), fc=readout))
    network = SpikingNetwork(layers, Encoder("direct"), 5, output_scale=0.2).train()
    network.execution = Execution(memory=budget)
    over_time = network.outputs_over_time(torch.ones(2, 1, 8, 8), [1, 2, 5], generator(9))
    assert torch.allclose(over_time[0], over_time[1])
    assert torch.allclose(over_time[0], over_time[2])
    kept = over_time[0] > 0
    torch.testing.assert_close(over_time[0][kept], torch.full((int(kept.sum()),), 4 / 3))
    assert 0.55 < float(kept.float().mean()) < 0.92
    assert not torch.equal(kept[0], kept[1]), "two images share their mask"


def test_dropout_does_nothing_in_eval_and_follows_the_generator_in_train() -> None:
    network, plain = small_snn("direct", 6, dropout=0.5), small_snn("direct", 6)
    assert torch.equal(network.eval()(X), plain(X))
    network.train()
    assert torch.equal(network(X, generator(1)), network(X, generator(1)))
    assert not torch.equal(network(X, generator(1)), network(X, generator(2)))


def test_the_twin_copies_the_weights_and_shares_none() -> None:
    teacher = small_ann()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    twin = spiking_twin(teacher, Encoder(), 3)
    for name, tensor in before.items():
        assert torch.equal(twin.state_dict()[f"layers.{name}"], tensor)
    back = twin.to_ann()
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.fill_(7.0)
    for name, tensor in before.items():
        assert torch.equal(teacher.state_dict()[name], tensor)
        assert torch.equal(back.state_dict()[name], tensor)


@pytest.mark.parametrize("name", ["vgg5", "vgg9"])
def test_reconversion_recovers_the_teacher_exactly_without_encryption(name: str) -> None:
    teacher = vgg(name, (3, 16, 16), 10, width=0.1, seed=3).eval()
    images = rand(4, 3, 16, 16)
    expected = teacher(images)
    assert expected.abs().max() > 0.1
    twin = spiking_twin(teacher, Encoder("rate"), 24)
    assert (twin.to_ann()(images) - expected).abs().max() <= 1e-4
    balance_thresholds(twin, images, seed=0, percentile=99.0)
    twin(images, generator())
    assert (twin.to_ann()(images) - expected).abs().max() <= 1e-4


def test_a_reconverted_network_is_in_the_mode_of_the_spiking_one() -> None:
    twin = small_snn(dropout=0.5)
    assert not twin.eval().to_ann().training
    assert twin.train().to_ann().training


def test_an_activation_that_stands_in_two_places_becomes_two_neurons() -> None:
    act = nn.ReLU()
    ann = nn.Sequential(nn.Conv2d(2, 4, 3), act, nn.Conv2d(4, 4, 3), act, nn.Flatten(), nn.Linear(16, 3)).eval()
    twin = spiking_twin(ann, Encoder(), 3)
    assert len(twin.neurons) == 2
    torch.testing.assert_close(twin.to_ann()(X), ann(X))


@pytest.mark.parametrize("layer", [nn.MaxPool2d(2), nn.GroupNorm(2, 4), nn.ModuleList(), nn.Sigmoid()])
def test_a_layer_without_a_spiking_counterpart_is_named(layer: nn.Module) -> None:
    ann = nn.Sequential(OrderedDict(conv1=nn.Conv2d(2, 4, 3), odd=layer, flatten=nn.Flatten(), fc=nn.Linear(16, 3)))
    with pytest.raises(ValueError, match=rf"layer 'odd' \({type(layer).__name__}\) has no spiking counterpart"):
        spiking_twin(ann, Encoder(), 3)


@pytest.mark.parametrize("layers", [[], [nn.Linear(2, 2), nn.ReLU()], [nn.Linear(2, 2), nn.Dropout(0.1)]])
def test_a_network_that_does_not_end_in_a_weight_layer_is_refused(layers: list[nn.Module]) -> None:
    with pytest.raises(ValueError, match="the last layer must be a convolution or a linear layer"):
        spiking_twin(nn.Sequential(*layers), Encoder(), 3)


def test_no_time_step_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="time_steps must be at least 1, not 0"):
        spiking_twin(small_ann(), Encoder(), 0)


@pytest.mark.parametrize("at", [[0, 2], [3, 2], [2, 2], [-1]])
def test_time_steps_that_do_not_increase_from_1_are_refused(at: list[int]) -> None:
    with pytest.raises(ValueError, match="positive and increasing"):
        small_snn("direct").outputs_over_time(X, at)


def test_activity_counts_the_events_and_spikes_of_the_plain_loop() -> None:
    network, activity = small_snn("rate", 7), Activity()
    network.outputs_over_time(X[:2], [7], generator(1), activity)
    train = network.encoder(X[:2], 7, generator(1))
    assert (activity.images, activity.time_steps) == (2, 7)
    assert torch.equal(activity.inputs["conv1"], (train != 0).sum((0, 1, 2)))
    assert torch.equal(activity.inputs["fc"], (run(network, train, stop="fc") != 0).sum())
    assert activity.spikes["relu1"] == int(run(network, train, stop="conv2").count_nonzero())
    assert activity.sizes == {"conv1": 2 * 36, "relu1": 4 * 36, "conv2": 4 * 36, "relu2": 4 * 36, "fc": 36}


def test_a_layer_in_two_places_is_refused() -> None:
    pool = nn.AvgPool2d(2)
    with pytest.raises(ValueError, match="a layer stands in two places"):
        SpikingNetwork(nn.Sequential(pool, pool, nn.Flatten(), nn.Linear(4, 2)), Encoder("direct"), 3)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="the batch is empty"):
        small_snn("direct")(X[:0])


def test_a_current_that_depends_on_frozen_weights_only_has_no_gradient() -> None:
    network = small_snn("rate")
    network.execution = Execution(memory=1)
    network.layers[0].requires_grad_(False)
    assert not network.current_into("relu1", X, generator()).requires_grad
