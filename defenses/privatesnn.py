"""PrivateSNN: DC + CET + on-device distillation."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from audit.registry import register_defense
from defenses.dc_cet import ClassEncryptionTraining


@dataclass(frozen=True)
class PrivateSNN(ClassEncryptionTraining):
    """Data-free conversion, class encryption training and distillation from the teacher (Kim et al., AAAI 2022, Eq. 3).

    ``distillation`` is the paper's m, ``temperature`` its tau.
    """

    baselines: ClassVar[tuple[str, ...]] = ("data-free-conversion", "dc-cet")

    distillation: Annotated[float, Field(ge=0, le=1)] = 0.7


register_defense("privatesnn", PrivateSNN)
