"""Synthetic images from a teacher's weights: PrivateSNN Algorithm 2, step 1 (data impressions of Nayak 2019)."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from audit.contracts import Monitor, Task

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Synthesis:
    """Settings of the synthetic images; the same settings, seed and teacher give the same images."""

    count: Annotated[int, Field(ge=1)] = 5000
    similarity: Literal["cosine", "printed"] = "cosine"
    concentration: Positive = 1.0
    steps: Annotated[int, Field(ge=1)] = 2500
    learning_rate: Positive = 1e-3
    temperature: Positive = 20.0
    batch_size: Annotated[int, Field(ge=1)] = 250


def class_similarity(weight: Tensor, kind: Literal["cosine", "printed"]) -> Tensor:
    """Concentration parameters from the last layer's weight [K, D] -> [K, K], every entry > 0.

    ``cosine``: cosine of the class vectors, row-wise min-max to [0, 1], plus 1e-4, since a Dirichlet parameter is
    never 0. ``printed``: Eq. 2 as printed, which divides by squared norms; clamped at 1e-4 where it is not positive.
    """
    if kind == "printed":
        squared = weight.square().sum(1)
        return (weight @ weight.T / (squared[:, None] * squared[None, :])).clamp(min=1e-4)
    unit = F.normalize(weight, dim=1)
    cosine = unit @ unit.T
    low, high = cosine.amin(1, keepdim=True), cosine.amax(1, keepdim=True)
    return (cosine - low) / (high - low).clamp(min=1e-12) + 1e-4


def sample_soft_labels(similarity: Tensor, count: int, concentration: float, seed: int) -> tuple[Tensor, Tensor]:
    """``count`` Dirichlet samples, classes in turn -> soft labels float [count, K], nominal classes [count]."""
    rng = np.random.default_rng(seed)
    classes = np.arange(count) % len(similarity)
    parameters = concentration * similarity.double().cpu().numpy()
    labels = np.stack([rng.dirichlet(parameters[c]) for c in classes])
    return torch.from_numpy(labels).float(), torch.from_numpy(classes)


def synthesise(
    teacher: nn.Sequential, task: Task, settings: Synthesis, seed: int, device: torch.device, monitor: Monitor
) -> dict[str, Tensor]:
    """Images whose teacher softmax, at a temperature, is a sampled soft label.

    Each starts as U(0, 1) noise and follows Adam on its own cross-entropy: the loss is summed over the batch, so
    batching changes nothing. Pixels are kept in [0, 1] and rounded to 8 bits at the end.

    Returns ``pixels`` uint8 [N, C, H, W],
    ``soft_labels`` [N, K], ``nominal`` and ``argmax`` (the class the label was drawn for, and the one the teacher sees
    in the finished image), int64 [N].
    """
    teacher = teacher.to(device).eval()
    last = [layer for layer in teacher if isinstance(layer, nn.Linear)][-1]
    similarity = class_similarity(last.weight.detach(), settings.similarity)
    soft, nominal = sample_soft_labels(similarity, settings.count, settings.concentration, seed)
    generator = torch.Generator().manual_seed(seed)
    low, high = task.input_range
    finished: list[Tensor] = []
    predicted: list[Tensor] = []
    for targets in soft.split(settings.batch_size):
        x = torch.rand(len(targets), *task.image_shape, generator=generator).to(device).requires_grad_()
        optimizer = torch.optim.Adam([x], lr=settings.learning_rate)
        with monitor.loop("synthetic images", settings.steps, x=x, optimizer=optimizer) as loop:
            for _ in loop:
                logits = teacher(x * (high - low) + low)
                loss = -(targets.to(device) * F.log_softmax(logits / settings.temperature, dim=1)).sum()
                (x.grad,) = torch.autograd.grad(loss, x)
                optimizer.step()
                with torch.no_grad():
                    x.clamp_(0, 1)
        with torch.no_grad():
            pixels = (x * 255).round().to(torch.uint8)
            finished.append(pixels.cpu())
            predicted.append(teacher(task.normalise(pixels)).argmax(1).cpu())
    return {
        "pixels": torch.cat(finished),
        "soft_labels": soft,
        "nominal": nominal,
        "argmax": torch.cat(predicted),
    }
