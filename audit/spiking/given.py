"""A target that is there already: read from a file, one for each seed."""

import hashlib
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from audit.contracts import DataAccess, DefenseContext, Task
from audit.errors import AuditError
from audit.spiking.strangers import Expected


class Given:
    """What every defense shares whose target comes from a file; to inherit.

    ``setting`` is the field that names the file, as 'component.field'; '{seed}' in its value stands for the run's seed.
    ``example``: such a value. What the network was made from cannot be enforced: its access to private data is unknown.
    """

    data_access: ClassVar[DataAccess] = DataAccess.UNKNOWN
    in_all: ClassVar[bool] = False
    repeatable: ClassVar[bool] = False
    setting: ClassVar[str]
    example: ClassVar[str]

    def parse(self, content: bytes, where: str, expected: Expected) -> nn.Module:
        """The network in the file's bytes. Raises AuditError where it is none for such images and classes."""
        raise NotImplementedError

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> nn.Module:
        task, seed = context.task, context.seed
        expected = Expected(task.image_shape, len(task.classes))
        return self.parse(self._content(seed), self._place(seed), expected).to(context.device)

    def check(self, task: Task, seed: int, device: torch.device) -> None:
        """Raises AuditError where the file is not there, or is no such network."""
        self.parse(self._content(seed), self._place(seed), Expected(task.image_shape, len(task.classes)))

    def fingerprint(self, task: Task, seed: int) -> str:
        """Of the file: a stage's key shall hold its content, not its place."""
        return hashlib.sha256(self._content(seed)).hexdigest()

    def _place(self, seed: int) -> str:
        component, _, field = self.setting.partition(".")
        place: str | None = getattr(self, field)
        if place is None:
            raise AuditError(f"{component} needs a file: --set {self.setting}={self.example}")
        return place.replace("{seed}", str(seed))

    def _content(self, seed: int) -> bytes:
        place = self._place(seed)
        try:
            return Path(place).read_bytes()
        except OSError as error:
            raise AuditError(f"{self.setting}: cannot read {place}: {error.strerror}") from error
