"""Gradient health: a masked gradient is found, a healthy one is not accused."""

import pytest
import torch

from audit.contracts import Task
from audit.health import gradient_health
from audit.spiking.surrogate import Surrogate
from tests.networks.teachers import CPU, TASK, tiny_target


@pytest.mark.parametrize("coding", ["rate", "direct"])
def test_a_trainable_network_is_healthy(coding: str) -> None:
    found = gradient_health(tiny_target(coding, steps=32), TASK, 0, CPU)  # type: ignore[arg-type]
    assert found.flags == ()
    assert found.missing == 0
    assert found.agreement is not None
    assert found.agreement > 0.2
    assert found.gain > 0
    assert found.train_eval < 1e-5


@pytest.mark.parametrize("coding", ["rate", "direct"])
def test_a_surrogate_of_no_width_masks_the_gradient(coding: str) -> None:
    network = tiny_target(coding, steps=32)  # type: ignore[arg-type]
    for neuron in network.neurons.values():
        neuron.surrogate = Surrogate("rectangle", width=1e-9)
    found = gradient_health(network, TASK, 0, CPU)
    assert "masked-gradients" in found.flags
    assert "loss-does-not-fall" in found.flags
    assert found.missing == 1


def test_a_gradient_of_the_wrong_sign_is_masked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there, and large, and leads away: only the answers of the target show it."""
    network = tiny_target("direct", steps=32)

    class Backwards(Surrogate):
        def __call__(self, potential: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
            return -super().__call__(potential, threshold)

    next(iter(network.neurons.values())).surrogate = Backwards(gain=1.0)
    monkeypatch.setattr("audit.spiking.neuron._kernels_for", lambda *_: None)  # they know its settings only
    found = gradient_health(network, TASK, 0, CPU)
    assert found.missing == 0
    assert "masked-gradients" in found.flags


def test_a_silent_network_is_called_silent_and_not_masked() -> None:
    network = tiny_target("direct")
    for neuron in network.neurons.values():
        neuron.threshold.fill_(1e9)
    found = gradient_health(network, TASK, 0, CPU)
    assert "silent" in found.flags
    assert found.agreement is None
    assert "masked-gradients" not in found.flags


def test_a_gradient_that_is_gone_in_eval_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny_target("direct")
    original = type(network).forward

    def forward(self, x, *arguments):  # type: ignore[no-untyped-def]
        out = original(self, x, *arguments)
        return out if self.training else out.detach() + 0 * x.sum()

    monkeypatch.setattr(type(network), "forward", forward)
    found = gradient_health(network, TASK, 0, CPU)
    assert {"eval-mode-gradient", "masked-gradients"} <= set(found.flags)
    assert found.train_eval == 1


def test_the_same_seed_gives_the_same_finding() -> None:
    task = Task("toy", ("a", "b", "c"), TASK.image_shape)
    assert gradient_health(tiny_target("rate"), task, 3, CPU) == gradient_health(tiny_target("rate"), task, 3, CPU)
