"""The settings that every defense on synthetic images shares, as fields to inherit."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from audit.contracts import DefenseContext
from audit.networks.synthesis import Positive, Synthesis, synthesise


@dataclass(frozen=True)
class Synthesised:
    """Synthetic images from the teacher's weights, as `audit.networks.synthesis.Synthesis` says."""

    synthetic_images: Annotated[int, Field(ge=1)] = 5000
    similarity: Literal["cosine", "printed"] = "cosine"
    synthesis_steps: Annotated[int, Field(ge=1)] = 2500
    synthesis_learning_rate: Positive = 1e-3
    synthesis_temperature: Positive = 20.0
    synthesis_concentration: Positive = 1.0

    def synthesise(self, teacher: nn.Sequential, context: DefenseContext) -> dict[str, Tensor]:
        """The synthetic images (made once for all defenses with these settings); their quality goes into the notes.

        Keys as of `audit.networks.synthesis.synthesise`.
        """
        settings = Synthesis(
            self.synthetic_images,
            self.similarity,
            self.synthesis_concentration,
            self.synthesis_steps,
            self.synthesis_learning_rate,
            self.synthesis_temperature,
        )
        made = context.stored(
            "synthetic-images",
            teacher,
            settings,
            lambda: synthesise(teacher, context.task, settings, context.seed, context.device, context.monitor),
        )
        peak = made["soft_labels"].argmax(1)
        context.notes["synthetic_images"] = len(made["pixels"])
        context.notes["teacher agrees with the soft label's peak"] = float((made["argmax"] == peak).float().mean())
        context.notes["teacher agrees with the nominal class"] = float(
            (made["argmax"] == made["nominal"]).float().mean()
        )
        return made
