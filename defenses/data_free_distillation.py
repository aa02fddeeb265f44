"""A student taught on synthetic images: an ANN that shares no weight with the teacher."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn

from audit.contracts import DataAccess, DefenseContext
from audit.networks.distillation import DistillationRecipe, Share, Variation, distil
from audit.networks.fresh import fresh_copy
from audit.networks.synthesised import Synthesised
from audit.networks.training import Count, Positive
from audit.registry import register_defense


@dataclass(frozen=True)
class DataFreeDistillation(Synthesised):
    """Zero-shot knowledge distillation into an ANN by images synthesised from the teacher (Nayak et al., ICML 2019).

    Data impressions of Dirichlet soft labels, varied at random, on which a student learns the teacher's answers at
    temperature 20. It never fires: what it shows is what distillation alone hides. Unlike in the paper: the student
    has the teacher's layers, with fresh weights, instead of fewer; there is one concentration of the labels instead of
    the paper's two, 1.0 and 0.1 (the second half moved the accuracy on digits by less than its interval), and as many
    images as the other data-free defenses use, the same ones, instead of tens of thousands; the teacher answers for
    every variation anew. ``variation_*`` are the settings of `audit.networks.distillation.Variation`.
    """

    data_access: ClassVar[DataAccess] = DataAccess.NONE
    baselines: ClassVar[tuple[str, ...]] = ("none",)

    student_epochs: Count = 100
    student_learning_rate: Positive = 3e-3
    student_batch_size: Count = 64
    student_temperature: Positive = 20.0
    variation_rotation: Annotated[float, Field(ge=0, le=180)] = 30.0
    variation_scaling: Share = 0.3
    variation_shift: Share = 0.2
    variation_noise: Share = 0.1

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> nn.Sequential:
        made = self.synthesise(teacher, context)
        student = fresh_copy(teacher, context.seed).to(context.device)
        recipe = DistillationRecipe(
            self.student_epochs,
            self.student_learning_rate,
            self.student_batch_size,
            self.student_temperature,
            Variation(self.variation_rotation, self.variation_scaling, self.variation_shift, self.variation_noise),
        )
        context.notes["training_loss"] = distil(
            student, teacher, made["pixels"], context.task, recipe, context.seed, context.monitor
        )
        return student


register_defense("data-free-distillation", DataFreeDistillation)
