"""Inversion with a prior: through a generator of public images, into the target."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from audit.contracts import Access, AttackContext, NotApplicable, Reconstructions, Task
from audit.data import DATASETS, load
from audit.named_files import NoFile
from audit.networks.ascent import Positive
from audit.networks.generator import VAE, train_vae
from audit.networks.perturbations import Count, margin, source
from audit.registry import register_attack
from audit.spiking.network import SpikingNetwork
from audit.store import hash_tensors

DATA_SETS = tuple(name for name in DATASETS if name != "folder")
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, what Pillow's mode L is


@dataclass(frozen=True)
class GenerativeInversion:
    """Searches the latent of a generator trained on public images (GMI, Zhang et al., CVPR 2020).

    Access: the target's weights, and images of classes that are not the private ones. The generator is a small VAE that
    the attack trains itself. Adam moves each latent down the max-margin loss of PLG-MI (Yuan et al., AAAI 2023) plus
    ``prior`` times |z|^2 / 2, the divergence of a point from the latent's normal prior. The margin is in units of the
    logits' spread over the classes, which the scale of an SNN's output does not change. Of ``restarts`` per image the
    one that the target is surest of is kept. IF-GMI (Qiu et al., ECCV 2024) goes on in the generator's intermediate
    features; this one stays in the latent. ``public``: the name of a data set under AUDIT_DATA, or a folder of the form
    of the data set 'folder'; its training images are used. Classes called like a private one are left out always, those
    in ``exclude`` (names with commas) too: names are all that is compared.
    """

    access: ClassVar[Access] = Access.WEIGHTS

    public: Annotated[str, NoFile(DATA_SETS)] | None = None
    exclude: Annotated[str, NoFile()] | None = None
    images_per_class: Count = 30
    latent: Count = 64
    width: Count = 16
    epochs: Count = 30
    learning_rate: Positive = 1e-3
    updates: Count = 100
    rate: Positive = 0.05
    prior: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01
    restarts: Count = 3
    time_steps: Annotated[int, Field(ge=0)] = 0
    batch_size: Count = 100

    def reconstruct(self, target: nn.Module, context: AttackContext) -> Reconstructions:
        if self.public is None:
            raise NotApplicable("needs public images: --set generative-inversion.public=DATASET or a folder")
        if isinstance(target, SpikingNetwork) and not target.encoder.differentiable:
            raise NotApplicable(f"{target.encoder.coding} coding has no gradient with respect to the image")
        pixels, left_out = public_images(self.public, (self.exclude or "").split(","), context.task)
        seed = source(context.seed, "prior").initial_seed()
        vae, losses = train_vae(
            pixels, self.latent, self.width, self.epochs, self.learning_rate, seed, context.device, context.monitor
        )
        draws = torch.Generator(context.device).manual_seed(context.seed)
        answer = self._answer(target.to(context.device).eval().requires_grad_(False), draws, context.task)
        labels = torch.arange(len(context.task.classes)).repeat(self.images_per_class)
        noise = source(context.seed, "latent")
        found = [self._search(vae, answer, batch, noise, draws, context) for batch in labels.split(self.batch_size)]
        images, before, after, missing = (torch.cat(parts) for parts in zip(*found, strict=True))
        context.notes["public images"] = len(pixels)
        context.notes["public classes left out"] = left_out
        context.notes["loss of the prior, nats per pixel"] = [losses[0], losses[-1]]
        context.notes["target confidence before and after"] = [float(before.mean()), float(after.mean())]
        context.notes["share of updates without a gradient"] = float(missing.mean())
        return Reconstructions(images, labels)

    def fingerprint(self, task: Task, seed: int) -> str:
        """Of the public images that it would learn from: a stage's key shall hold their content, not their place."""
        if self.public is None:
            return "no public images"
        return hash_tensors({"pixels": public_images(self.public, (self.exclude or "").split(","), task)[0]})

    def _answer(self, target: nn.Module, draws: torch.Generator, task: Task) -> Callable[[Tensor], Tensor]:
        """Images in [0, 1] -> logits."""
        low, high = task.input_range

        def answer(x: Tensor) -> Tensor:
            x = x * (high - low) + low
            logits: Tensor
            if isinstance(target, SpikingNetwork):
                logits = target(x, draws, self.time_steps or target.time_steps)
            else:
                logits = target(x)
            return logits

        return answer

    def _search(
        self,
        vae: VAE,
        answer: Callable[[Tensor], Tensor],
        labels: Tensor,
        noise: torch.Generator,
        draws: torch.Generator,
        context: AttackContext,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images of a batch; the target's confidence at the first starts and at the end; missing gradients."""
        low, high = context.task.input_range
        classes = labels.to(context.device)
        runs = []
        for _ in range(self.restarts):
            z = torch.randn(len(labels), vae.latent, generator=noise).to(context.device)
            runs.append(self._descend(vae, answer, classes, z, draws, context))
        images, before, after, missing = (torch.stack(parts) for parts in zip(*runs, strict=True))
        surest, each = after.argmax(0), torch.arange(len(labels))
        chosen = images[surest, each] * (high - low) + low
        return chosen, before[0].exp(), after[surest, each].exp(), missing.mean(0)

    def _descend(
        self,
        vae: VAE,
        answer: Callable[[Tensor], Tensor],
        labels: Tensor,
        z: Tensor,
        draws: torch.Generator,
        context: AttackContext,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images from the latents ``z``; the logarithm of their confidence before and after; missing gradients."""

        def sureness(logits: Tensor) -> Tensor:
            return logits.detach().log_softmax(1).gather(1, labels[:, None])[:, 0].cpu()

        z.requires_grad_()
        optimizer = torch.optim.Adam([z], lr=self.rate)
        before, missing = torch.zeros(len(z)), torch.zeros(len(z))
        state = {"z": z, "optimizer": optimizer, "before": before, "missing": missing, "draws": draws}
        with context.monitor.loop("attack updates, latent", self.updates, **state) as loop:
            for n in loop:
                logits = answer(vae.decode(z))
                if n == 0:
                    before.copy_(sureness(logits))
                spread = logits.detach().std(1)
                loss = -margin(logits, labels) / torch.where(spread > 0, spread, 1.0)
                (slope,) = torch.autograd.grad(loss.sum(), z)
                missing += (slope.abs().amax(1) == 0).cpu() / self.updates
                z.grad = slope + self.prior * z.detach()
                optimizer.step()
        with torch.no_grad():
            images = vae.decode(z)
            return images.cpu(), before, sureness(answer(images)), missing


def public_images(public: str, exclude: list[str], task: Task) -> tuple[Tensor, list[str]]:
    """Training images of the public data set at the task's shape, uint8 [N, C, H, W], and its classes left out.

    Raises NotApplicable where no image is left, or the shapes cannot fit.
    """
    channels, height, width = task.image_shape
    if height != width or channels not in (1, 3):
        raise NotApplicable(f"public images are square, grey or RGB; the task's are {channels}x{height}x{width}")
    name, root = (public, None) if public in DATA_SETS else ("folder", Path(public))
    dataset = load(name, root, height)
    private = {_plain(name) for name in (*task.classes, *exclude)}
    kept = torch.tensor([_plain(name) not in private for name in dataset.classes])
    pixels = dataset.train.pixels[kept[dataset.train.labels]]
    if not len(pixels):
        raise NotApplicable(f"every class of {public} is a private one or excluded: no public image is left")
    if pixels.shape[1] == 3 and channels == 1:
        weights = torch.tensor(LUMA).view(3, 1, 1)
        pixels = (pixels * weights).sum(1, keepdim=True).round().to(torch.uint8)
    return pixels.expand(-1, channels, -1, -1), [n for n, keep in zip(dataset.classes, kept, strict=True) if not keep]


def _plain(name: str) -> str:
    return name.strip().casefold()


register_attack("generative-inversion", GenerativeInversion)
