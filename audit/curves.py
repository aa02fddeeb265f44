"""Curves for TensorBoard: the losses and margins of what is being made, a folder for each stage."""

import os
from pathlib import Path
from typing import Any

from audit.errors import AuditError

VARIABLE = "AUDIT_TENSORBOARD"


def check() -> None:
    """Raises AuditError where curves are asked for and TensorBoard is not installed."""
    if os.environ.get(VARIABLE):
        _writer_class()


class Curves:
    """Of one stage, in the folder that AUDIT_TENSORBOARD names; without it, nothing is written.

    The variable, and no argument: every process of a run has it, on whatever machine.
    """

    def __init__(self, title: str) -> None:
        self._root, self._title = os.environ.get(VARIABLE), title
        self._writer: Any = None

    def add(self, name: str, value: float, step: int) -> None:
        if not self._root:
            return
        if self._writer is None:
            self._writer = _writer_class()(str(Path(self._root) / self._title))
        self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _writer_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise AuditError(f"--tensorboard: {error}; pip install 'snn-privacy-audit[tensorboard]'") from error
    return SummaryWriter
