"""DP-SGD: a network trained anew with differential privacy, then converted."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from audit.contracts import DataAccess, DefenseContext, Images, Task
from audit.errors import AuditError
from audit.networks.accounting import accountant_name, require_opacus
from audit.networks.fresh import fresh_copy
from audit.networks.private_training import PrivateRecipe, Spent, train_privately
from audit.registry import register_defense
from audit.spiking.network import SpikingNetwork
from audit.spiking.settings import Positive
from defenses.data_free_conversion import DataFreeConversion

SEED_IS_PUBLIC = (
    "torch's generator, seeded: the guarantee is for whoever does not know the run's seed, which this record names"
)


@dataclass(frozen=True)
class DpSgd(DataFreeConversion):
    """Training anew with differential privacy (DP-SGD, Abadi et al. 2016, Algorithm 1), then data-free conversion.

    The network has the teacher's layers and none of its weights. It is trained on the private images, and its
    thresholds are balanced on images synthesised from the trained network. What is made of private weights alone is as
    private as they are, so that ``epsilon`` and ``delta`` hold for everything that ships: with one private image more
    or less, the probability of any outcome changes by a factor of at most e^epsilon, up to delta.

    The guarantee does not cover what the audit measures beside the target (the teacher's accuracy, say, which trained
    on the same images without noise), the number of images, the architecture, nor the choice of these settings, which
    were tuned on the digits of seed 0 by their test accuracy. It assumes ideal noise: here, the noise follows from the
    seed, so that a run can be repeated. No training loss is recorded, since it would be one more answer about the
    private images.

    ``sample_rate`` is the probability of every image to be in a step's batch, ``private_epochs`` / ``sample_rate`` the
    number of steps; the learning rate falls linearly to 0. ``delta`` has to stay below one over the number of images.
    There is no dropout and no augmentation.
    """

    data_access: ClassVar[DataAccess] = DataAccess.TRAINING_IMAGES
    baselines: ClassVar[tuple[str, ...]] = ("data-free-conversion",)
    requires: ClassVar[tuple[str, ...]] = ("opacus",)

    epsilon: Positive = 8.0
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    private_epochs: Positive = 30.0
    sample_rate: Annotated[float, Field(gt=0, le=1)] = 0.05
    clipping_norm: Positive = 0.1
    private_learning_rate: Positive = 1.5
    private_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9

    def check(self, task: Task, seed: int, device: torch.device) -> None:
        """Raises AuditError where Opacus, which does the accounting, is not installed."""
        require_opacus("DP-SGD")

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> SpikingNetwork:
        self.check(context.task, context.seed, context.device)
        assert context.private_images is not None
        network = fresh_copy(teacher, context.seed)
        recipe = self.recipe(context.private_images)
        spent = train_privately(
            network, context.private_images, context.task, recipe, context.seed, context.device, context.monitor
        )
        context.notes.update(guarantee(recipe, spent, len(context.private_images)))
        # What follows is made of the private weights alone: the images are out of reach.
        context = replace(context, private_images=None)
        return self.convert(network, self.synthesise(network, context)["pixels"], context)

    def recipe(self, images: Images) -> PrivateRecipe:
        """The settings of the training. Raises AuditError where delta says nothing about so many images."""
        if self.delta * len(images) > 1:
            raise AuditError(
                f"delta = {self.delta:g} allows to publish one of {len(images)} private images outright; "
                f"set it below {1 / len(images):.1g} (--set defense.delta=...)"
            )
        return PrivateRecipe(
            epsilon=self.epsilon,
            delta=self.delta,
            epochs=self.private_epochs,
            sample_rate=self.sample_rate,
            clipping_norm=self.clipping_norm,
            learning_rate=self.private_learning_rate,
            momentum=self.private_momentum,
        )


def guarantee(recipe: PrivateRecipe, spent: Spent, images: int) -> dict[str, str | float]:
    """What was proved and from what, for the record; none of it depends on the content of an image."""
    return {
        "epsilon": spent.epsilon,
        "delta": recipe.delta,
        "noise multiplier": spent.noise_multiplier,
        "sample rate": recipe.sample_rate,
        "steps": spent.steps,
        "private images": images,
        "clipping norm": recipe.clipping_norm,
        "accountant": accountant_name(),
        "neighbouring relation": "one image added or removed",
        "noise": SEED_IS_PUBLIC,
    }


@dataclass(frozen=True)
class StrictDpSgd(DpSgd):
    """As dp-sgd, with epsilon 1, the strong end of what is called private, and a rate that suits so much noise."""

    epsilon: Positive = 1.0
    private_learning_rate: Positive = 0.5


@dataclass(frozen=True)
class LooseDpSgd(DpSgd):
    """As dp-sgd, with epsilon 50, hardly a guarantee any more, and a rate that suits so little noise."""

    epsilon: Positive = 50.0
    private_learning_rate: Positive = 3.0


register_defense("dp-sgd", DpSgd)
register_defense("dp-sgd-1", StrictDpSgd)
register_defense("dp-sgd-50", LooseDpSgd)
