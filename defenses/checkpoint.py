"""A network that is there already, as a defense: what somebody else made, audited like the rest."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import nn

from audit.contracts import DataAccess, DefenseContext, Task
from audit.errors import AuditError
from audit.registry import register_defense
from audit.spiking.strangers import Expected, parse_network


@dataclass(frozen=True)
class Checkpoint:
    """Reads the target from a file, as `audit.spiking.files.save_network` writes it; nothing of it is executed.

    ``path`` names a safetensors file; '{seed}' in it stands for the run's seed. What the network was made from cannot
    be enforced, and the tables call its access to private data unknown. It should have been trained on what the audit
    gives a teacher; otherwise membership and leakage are measured against images that it never saw.
    """

    data_access: ClassVar[DataAccess] = DataAccess.UNKNOWN
    in_all: ClassVar[bool] = False
    repeatable: ClassVar[bool] = False

    path: str | None = None

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> nn.Module:
        task = context.task
        return parse_network(self._content(context.seed), self._place(context.seed), _expected(task)).to(context.device)

    def fingerprint(self, task: Task, seed: int) -> str:
        """Of the file: a stage's key shall hold its content, not its place."""
        return hashlib.sha256(self._content(seed)).hexdigest()

    def _place(self, seed: int) -> str:
        if self.path is None:
            raise AuditError("checkpoint needs a file: --set checkpoint.path=network-seed{seed}.safetensors")
        return self.path.replace("{seed}", str(seed))

    def _content(self, seed: int) -> bytes:
        place = self._place(seed)
        try:
            return Path(place).read_bytes()
        except OSError as error:
            raise AuditError(f"checkpoint.path: cannot read {place}: {error.strerror}") from error


def _expected(task: Task) -> Expected:
    return Expected(task.image_shape, len(task.classes))


register_defense("checkpoint", Checkpoint)
