"""Class encryption training minimises Eq. 3, by gradients through time, and touches weights only."""

import math

import pytest
import torch
from torch import Tensor

from audit.errors import AuditError
from audit.monitor import SilentMonitor
from audit.spiking.network import SpikingNetwork
from audit.spiking.training import EncryptionRecipe, encrypt, encryption_loss
from tests.networks.teachers import rand, small_ann, small_snn

LOGITS = [[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]]
TAUGHT = [[1.0, 0.0, -2.0], [4.0, 1.0, 1.0]]
LABELS = [2, 1]
X, Y = rand(12, 2, 6, 6), torch.arange(12) % 3


def softmax(row: list[float], temperature: float) -> list[float]:
    exponentials = [math.exp(value / temperature) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def by_hand(distillation: float, temperature: float) -> float:
    """(1 - m) CE + m tau^2 KL(teacher || student), mean over the batch."""
    total = 0.0
    for logits, taught, label in zip(LOGITS, TAUGHT, LABELS, strict=True):
        student, tutor = softmax(logits, temperature), softmax(taught, temperature)
        divergence = sum(p * math.log(p / q) for p, q in zip(tutor, student, strict=True))
        total += (1 - distillation) * -math.log(softmax(logits, 1.0)[label])
        total += distillation * temperature**2 * divergence
    return total / len(LOGITS)


@pytest.mark.parametrize("distillation", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_the_loss_is_equation_3(distillation: float, temperature: float) -> None:
    recipe = EncryptionRecipe(distillation=distillation, temperature=temperature)
    loss = encryption_loss(torch.tensor(LOGITS), torch.tensor(TAUGHT), torch.tensor(LABELS), recipe)
    assert float(loss) == pytest.approx(by_hand(distillation, temperature), rel=1e-4)


def test_without_distillation_the_teacher_does_not_matter_and_with_nothing_else_the_labels_do_not() -> None:
    logits, labels = torch.tensor(LOGITS), torch.tensor(LABELS)
    for m, taught, other_labels in ((0.0, torch.zeros(2, 3), labels), (1.0, torch.tensor(TAUGHT), 2 - labels)):
        recipe = EncryptionRecipe(distillation=m)
        changed = encryption_loss(logits, taught, other_labels, recipe)
        assert torch.equal(changed, encryption_loss(logits, torch.tensor(TAUGHT), labels, recipe))


def test_a_student_that_says_what_its_teacher_says_loses_nothing_by_distillation() -> None:
    taught = torch.tensor(TAUGHT)
    loss = encryption_loss(taught.clone(), taught, torch.tensor(LABELS), EncryptionRecipe(distillation=1.0))
    assert float(loss) == pytest.approx(0.0, abs=1e-4)


def trained(recipe: EncryptionRecipe, seed: int = 0, dropout: float = 0.2) -> tuple[SpikingNetwork, list[float]]:
    network = small_snn("rate", 8, dropout=dropout)
    network.output_scale.fill_(1 / 8)
    return network, encrypt(network, small_ann(), X, Y, recipe, seed, SilentMonitor())


def state(network: SpikingNetwork) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("distillation", [0.0, 0.7])
def test_the_loss_falls(distillation: float) -> None:
    recipe = EncryptionRecipe(epochs=20, learning_rate=2e-2, batch_size=4, distillation=distillation)
    _, losses = trained(recipe, dropout=0.0)
    assert len(losses) == 20
    assert losses[-1] < 0.8 * losses[0], losses


def test_every_weight_changes_and_no_threshold_and_no_scale() -> None:
    before = state(small_snn("rate", 8, dropout=0.2))
    network, _ = trained(EncryptionRecipe(epochs=2, learning_rate=1e-3, batch_size=4))
    after = state(network)
    for name, tensor in after.items():
        if name.endswith("threshold"):
            assert torch.equal(tensor, before[name])
        elif name != "output_scale":
            assert not torch.equal(tensor, before[name]), name
    assert float(after["output_scale"]) == 1 / 8
    assert not network.training


def test_the_seed_alone_decides_the_result() -> None:
    recipe = EncryptionRecipe(epochs=2, learning_rate=1e-3, batch_size=5)
    torch.manual_seed(1)
    global_state = torch.get_rng_state()
    first, losses = trained(recipe)
    assert torch.equal(torch.get_rng_state(), global_state)
    torch.manual_seed(2)
    again, losses_again = trained(recipe)
    other, _ = trained(recipe, seed=1)
    assert losses == losses_again
    assert all(torch.equal(tensor, state(again)[name]) for name, tensor in state(first).items())
    assert any(not torch.equal(tensor, state(other)[name]) for name, tensor in state(first).items())


def test_dropout_is_at_work_while_training() -> None:
    recipe = EncryptionRecipe(epochs=1, batch_size=4)
    assert trained(recipe, dropout=0.2)[1] != trained(recipe, dropout=0.0)[1]


def test_the_teacher_is_not_trained() -> None:
    teacher, network = small_ann(), small_snn("rate", 8)
    encrypt(network, teacher, X, Y, EncryptionRecipe(epochs=1, learning_rate=0.1), 0, SilentMonitor())
    assert all(torch.equal(tensor, small_ann().state_dict()[name]) for name, tensor in teacher.state_dict().items())


def test_the_rate_falls_to_a_tenth_at_50_and_at_70_percent_of_the_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = torch.optim.Adam.step

    def noted(self: torch.optim.Adam, *arguments: object) -> object:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", noted)
    trained(EncryptionRecipe(epochs=10, learning_rate=1e-3, batch_size=12))
    assert rates == pytest.approx([1e-3] * 5 + [1e-4] * 2 + [1e-5] * 3)


def test_a_loss_that_is_not_finite_is_an_error_with_advice() -> None:
    network = small_snn("rate", 8)
    network.output_scale.fill_(float("inf"))
    with pytest.raises(AuditError, match=r"diverged.*lower the learning rate"):
        encrypt(network, small_ann(), X, Y, EncryptionRecipe(epochs=1), 0, SilentMonitor())
