"""No defense."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from audit.contracts import DataAccess, DefenseContext
from audit.registry import register_defense


@dataclass(frozen=True)
class NoDefense:
    """The teacher itself ships: the control that every attack should succeed on."""

    data_access: ClassVar[DataAccess] = DataAccess.NONE
    baselines: ClassVar[tuple[str, ...]] = ()

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> nn.Sequential:
        return teacher


register_defense("none", NoDefense)
