"""Gradient health of a target, before any white-box attack is believed: an attack that fails may have been blind."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audit.contracts import Task
from audit.networks.inversion import spread_of
from audit.networks.perturbations import margin
from audit.records import GradientHealth
from audit.spiking.network import SpikingNetwork

IMAGES, DIRECTIONS, STEPS = 16, 24, 10
# In the unit of the input range. Wide enough that rate coding answers in more than its rounding.
PROBE, STEP = 0.1, 0.02
# Below this mean cosine with the target's real answers a gradient is none; as with none for over half of the images.
LEAST_COSINE, MOST_MISSING = 0.1, 0.5
# In spreads of the logits, after the steps.
LEAST_GAIN = 0.01


class Probe:
    """A target seen as a function of the image: every call draws the same spike trains, so a difference is the image's.

    The margin of a class drawn per image is what is asked for.
    """

    def __init__(self, network: nn.Module, task: Task, seed: int, device: torch.device) -> None:
        self.network, self.seed, self.device = network.to(device).eval(), seed, device
        self.low, self.high = task.input_range
        self.generator = torch.Generator().manual_seed(seed)
        inside = PROBE + (1 - 2 * PROBE) * smooth((IMAGES, *task.image_shape), self.generator)
        self.x = inside.to(device) * (self.high - self.low) + self.low
        self.labels = torch.randint(len(task.classes), (IMAGES,), generator=self.generator).to(device)

    def logits(self, x: Tensor) -> Tensor:
        spiking = isinstance(self.network, SpikingNetwork)
        answers: Tensor = self.network(x, *([torch.Generator(self.device).manual_seed(self.seed)] if spiking else []))
        return answers

    def margins(self, x: Tensor) -> Tensor:
        return margin(self.logits(x), self.labels)

    def gradient(self, x: Tensor) -> Tensor:
        """Zero where it is not finite: such a gradient leads nowhere."""
        x = x.detach().requires_grad_()
        return torch.autograd.grad(self.margins(x).sum(), x)[0].nan_to_num(0, 0, 0)


def gradient_health(network: nn.Module, task: Task, seed: int, device: torch.device) -> GradientHealth:
    """Of the target's own gradient with respect to the image; a spiking network's coding has to have one."""
    probe = Probe(network, task, seed, device)
    with torch.no_grad():
        logits = probe.logits(probe.x)
    silent = bool((logits == logits[:1]).all())
    gradient = probe.gradient(probe.x)
    missing = float((gradient.flatten(1).abs().amax(1) == 0).double().mean())
    train_eval = _train_eval(probe, gradient)
    agreement = _agreement(probe, gradient)
    gain = _gain(probe) / spread_of(logits)
    flags = {
        "silent": silent,
        "masked-gradients": agreement is not None and (missing > MOST_MISSING or not agreement >= LEAST_COSINE),
        "loss-does-not-fall": not gain > LEAST_GAIN,
        "eval-mode-gradient": missing == 1 and train_eval == 1,
    }
    return GradientHealth(
        missing=missing,
        zero=float((gradient == 0).double().mean()),
        agreement=agreement,
        gain=gain,
        train_eval=train_eval,
        flags=tuple(flag for flag, raised in flags.items() if raised),
    )


def smooth(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Noise in [0, 1] of a coarse grain, [B, C, H, W]: fine noise of a small amplitude averages out in a network."""
    batch, channels, height, width = shape
    coarse = torch.rand(batch, channels, max(2, height // 4), max(2, width // 4), generator=generator)
    return F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)


def _train_eval(probe: Probe, evaluated: Tensor) -> float:
    """Largest difference of the gradient in eval() from that in train() without dropout, relative to the latter."""
    rates = {layer: layer.p for layer in probe.network.modules() if isinstance(layer, nn.Dropout)}
    for layer in rates:
        layer.p = 0.0
    probe.network.train()
    trained = probe.gradient(probe.x)
    probe.network.eval()
    for layer, rate in rates.items():
        layer.p = rate
    scale = float(trained.abs().max())
    return float((trained - evaluated).abs().max()) / scale if scale > 0 else 0.0


@torch.no_grad()
def _agreement(probe: Probe, gradient: Tensor) -> float | None:
    """Cosine, over smooth directions v, of g . v with the central difference along v; the mean over images.

    None where no image's margin moves along any direction. An image without a gradient counts as 0.
    """
    told, answered = [], []
    for _ in range(DIRECTIONS):
        v = (smooth(probe.x.shape, probe.generator).to(probe.device) - 0.5).sign() * PROBE * (probe.high - probe.low)
        answered.append(probe.margins(probe.x + v) - probe.margins(probe.x - v))
        told.append((gradient * v).flatten(1).sum(1))
    answers = torch.stack(answered)
    moves = answers.norm(dim=0) > 0
    if not moves.any():
        return None
    cosines = F.cosine_similarity(torch.stack(told).double(), answers.double(), dim=0, eps=1e-300)
    return float(cosines[moves].nan_to_num(0).mean())


def _gain(probe: Probe) -> float:
    """How much ten normalised steps along the gradient raise the mean margin."""
    x = probe.x
    for _ in range(STEPS):
        step = probe.gradient(x).double()
        step = step / step.flatten(1).square().mean(1).sqrt().view(-1, 1, 1, 1).clamp(min=1e-300)
        x = (x + STEP * (probe.high - probe.low) * step.to(x.dtype)).clamp(probe.low, probe.high)
    with torch.no_grad():
        return float((probe.margins(x) - probe.margins(probe.x)).nan_to_num(0, 0, 0).mean())
