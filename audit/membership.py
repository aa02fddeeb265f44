"""What a membership inference is asked, what its attacker may learn from, and what the answer is."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from audit.contracts import Candidates, Defense, Images
from audit.networks.ascent import derived_seed
from audit.pipeline import Prepared, protect, train_teacher
from audit.registry import Component
from audit.settings import Settings
from audit.spiking.files import build
from audit.store import digest, hash_tensors
from audit.workshop import Workshop, code

SHADOW_SEED = 1_000_003


@dataclass(frozen=True)
class Membership:
    """Candidates of a membership inference, and which of them the teacher was trained on."""

    images: Images
    members: Tensor


@dataclass(frozen=True)
class Inquiry:
    """``candidates`` is handed to the attack, ``truth`` is the harness's own; ``key`` stands for both."""

    candidates: Callable[[], Candidates]
    truth: Membership
    key: str

    @classmethod
    def of(
        cls, shop: Workshop, data: Prepared, component: Component[Defense], options: Settings, model: str, seed: int
    ) -> "Inquiry":
        """As many of the teacher's training images as of the test images, shuffled; the evaluators' are the population.

        A shadow is a teacher of the same recipe on the attacker's images, and the same defense of it; its seed is not
        the run's, since an attacker trains his shadows once and asks them about every target.
        """
        count = min(options.group("measure").membership_images, len(data.parts.test), len(data.parts.teacher))
        members, others = data.parts.teacher, data.parts.test
        pixels = torch.cat([members.pixels[:count], others.pixels[:count]])
        labels = torch.cat([members.labels[:count], others.labels[:count]])
        order = torch.randperm(2 * count, generator=torch.Generator().manual_seed(derived_seed(seed, "candidates", 0)))
        images = Images(pixels[order], labels[order])

        def shadow(index: int, drawn: Images) -> nn.Module:
            parts = replace_teacher(data, drawn)
            own = derived_seed(SHADOW_SEED, "shadow", index) % 2**32
            teacher = train_teacher(shop, parts, model, options.group("teacher"), own)
            made = protect(shop, parts, teacher, component, options, own)
            return build(made.artifact.document["network"], made.artifact.tensors).to(shop.device)

        truth = Membership(images, order < count)
        drawn = {"pixels": images.pixels, "labels": images.labels, "members": truth.members}
        key = digest([hash_tensors(drawn), data.split_hash, code("membership.py", "pipeline.py")])
        repeatable = getattr(component.factory, "repeatable", True)
        return cls(lambda: Candidates(images, data.parts.evaluator, shadow if repeatable else None), truth, key)


def replace_teacher(data: Prepared, images: Images) -> Prepared:
    """The same task with other images in the teacher's place, and no others."""
    drawn = hash_tensors({"pixels": images.pixels, "labels": images.labels})
    nothing = Images(images.pixels[:0], images.labels[:0])
    return Prepared(data.task, replace(data.parts, teacher=images, evaluator=nothing, test=data.parts.test), drawn)
