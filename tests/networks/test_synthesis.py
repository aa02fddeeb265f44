"""Synthetic images come from the teacher's weights alone, and each from its own loss."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from audit.monitor import SilentMonitor
from audit.networks.synthesis import Synthesis, class_similarity, sample_soft_labels, synthesise
from audit.networks.training import predict
from tests.networks.teachers import CPU, TASK, generator, rand, tiny_teacher

WEIGHT = rand(5, 8, seed=3)
SETTINGS = Synthesis(count=12, steps=30, learning_rate=0.02, batch_size=12)


def made(settings: Synthesis = SETTINGS, seed: int = 0) -> dict[str, torch.Tensor]:
    return synthesise(tiny_teacher(), TASK, settings, seed, CPU, SilentMonitor())


def test_the_similarity_of_a_class_to_itself_is_highest_and_no_parameter_is_0() -> None:
    similarity = class_similarity(WEIGHT, "cosine")
    assert bool((similarity > 0).all())
    assert similarity.diagonal().tolist() == pytest.approx([1.0001] * 5)
    assert similarity.amin(1).tolist() == pytest.approx([1e-4] * 5, abs=1e-6)
    assert bool((similarity <= 1.0001 + 1e-6).all())
    assert torch.equal(similarity.argmax(1), torch.arange(5))


def test_cosine_similarity_is_stretched_row_by_row() -> None:
    w = WEIGHT.double().numpy()
    for i in range(5):
        cosines = [w[i] @ w[j] / np.linalg.norm(w[i]) / np.linalg.norm(w[j]) for j in range(5)]
        expected = [(c - min(cosines)) / (max(cosines) - min(cosines)) + 1e-4 for c in cosines]
        assert class_similarity(WEIGHT, "cosine")[i].tolist() == pytest.approx(expected, abs=1e-5)


def test_cosine_similarity_does_not_depend_on_the_length_of_a_class_vector() -> None:
    longer = WEIGHT * torch.tensor([1.0, 2.0, 0.1, 7.0, 3.0])[:, None]
    torch.testing.assert_close(class_similarity(longer, "cosine"), class_similarity(WEIGHT, "cosine"))


def test_printed_similarity_is_equation_2_with_squared_norms_clamped() -> None:
    w = WEIGHT.double().numpy()
    for i in range(5):
        for j in range(5):
            expected = max(1e-4, (w[i] @ w[j]) / ((w[i] @ w[i]) * (w[j] @ w[j])))
            assert float(class_similarity(WEIGHT, "printed")[i, j]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("concentration", [1e-3, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("kind", ["cosine", "printed"])
def test_soft_labels_are_distributions(concentration: float, kind: str) -> None:
    weight = 100 * WEIGHT if kind == "printed" else WEIGHT
    soft, nominal = sample_soft_labels(class_similarity(weight, kind), 103, concentration, seed=0)  # type: ignore[arg-type]
    assert soft.shape == (103, 5)
    assert bool((soft >= 0).all())
    torch.testing.assert_close(soft.sum(1), torch.ones(103))
    assert nominal.bincount().tolist() == [21, 21, 21, 20, 20]


def test_the_mean_soft_label_is_the_normalised_similarity() -> None:
    similarity = class_similarity(WEIGHT, "cosine")
    soft, nominal = sample_soft_labels(similarity, 20_000, 2.0, seed=1)
    for c in range(5):
        torch.testing.assert_close(soft[nominal == c].mean(0), similarity[c] / similarity[c].sum(), atol=0.02, rtol=0)


def test_soft_labels_follow_the_seed_only() -> None:
    similarity = class_similarity(WEIGHT, "cosine")
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - the claim is that this does nothing
    first = sample_soft_labels(similarity, 20, 1.0, seed=4)[0]
    np.random.seed(1)  # noqa: NPY002
    assert torch.equal(sample_soft_labels(similarity, 20, 1.0, seed=4)[0], first)
    assert not torch.equal(sample_soft_labels(similarity, 20, 1.0, seed=5)[0], first)


def test_pixels_are_8_bit_images_and_every_label_goes_with_its_image() -> None:
    result = made()
    assert result["pixels"].dtype == torch.uint8
    assert result["pixels"].shape == (12, *TASK.image_shape)
    assert torch.equal(result["nominal"], torch.arange(12) % 3)
    seen = tiny_teacher()(TASK.normalise(result["pixels"])).argmax(1)
    assert torch.equal(result["argmax"], seen)


def test_the_teacher_comes_to_say_the_soft_label() -> None:
    def loss(settings: Synthesis) -> float:
        result = made(settings)
        logits = predict(tiny_teacher(), TASK.normalise(result["pixels"])) / settings.temperature
        return float(torch.nn.functional.cross_entropy(logits, result["soft_labels"]))

    sharp = replace(SETTINGS, temperature=0.5)
    assert loss(replace(sharp, steps=100)) < 0.8 * loss(replace(sharp, steps=1))


def test_the_images_follow_the_seed_only() -> None:
    teacher, global_state = tiny_teacher(), torch.get_rng_state()
    first = synthesise(teacher, TASK, SETTINGS, 0, CPU, SilentMonitor())
    assert torch.equal(torch.get_rng_state(), global_state)
    torch.manual_seed(5)
    assert all(torch.equal(tensor, made()[name]) for name, tensor in first.items())
    assert not torch.equal(made(seed=1)["pixels"], first["pixels"])


@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_batch_size_changes_nothing(batch_size: int) -> None:
    # Sums in another order may round one grey level the other way; a mean over the batch would move every image less.
    whole, batched = made(), made(replace(SETTINGS, batch_size=batch_size))
    assert torch.equal(batched["soft_labels"], whole["soft_labels"])
    difference = (batched["pixels"].int() - whole["pixels"].int()).abs()
    assert int(difference.max()) <= 1
    assert float((difference > 0).float().mean()) < 0.01


@pytest.mark.parametrize("temperature", [20.0, 0.5])
def test_the_gradient_is_that_of_each_images_own_cross_entropy(
    temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Adam's step hardly depends on the size of a gradient: look at the gradient itself.
    seen: list[torch.Tensor] = []
    step = torch.optim.Adam.step

    def noted(self: torch.optim.Adam, *arguments: object) -> object:
        seen.append(self.param_groups[0]["params"][0].grad.clone())
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", noted)
    soft = made(replace(SETTINGS, steps=1, batch_size=5, temperature=temperature))["soft_labels"]
    start = torch.rand(12, *TASK.image_shape, generator=generator(0))
    for x, label, gradient in zip(start, soft, torch.cat(seen), strict=True):
        x.requires_grad_()
        logits = tiny_teacher()(2 * x[None] - 1)[0]
        (-(label * torch.log_softmax(logits / temperature, 0)).sum()).backward()
        torch.testing.assert_close(gradient, x.grad, rtol=1e-3, atol=1e-7)


def test_the_teachers_weights_are_left_alone() -> None:
    teacher = tiny_teacher()
    synthesise(teacher, TASK, SETTINGS, 0, CPU, SilentMonitor())
    assert all(torch.equal(tensor, tiny_teacher().state_dict()[name]) for name, tensor in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())
