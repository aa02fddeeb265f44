"""Modules that no description holds: anybody's architecture, kept by the process that audits it."""

import copy
from typing import Any

from torch import Tensor, nn

from audit.errors import AuditError

_KEPT: dict[str, nn.Module] = {}


class Live(nn.Module):
    """Anybody's module, images [N, C, H, W] -> logits [N, K], as a target like the others.

    A copy is kept under ``token``, which names class and weights, so that stages can build it again in this process.
    In a file there is only its state: another process cannot build it.
    """

    def __init__(self, inner: nn.Module, token: str) -> None:
        super().__init__()
        self.inner, self.token = inner, token
        if token not in _KEPT:
            _KEPT[token] = copy.deepcopy(inner)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x)
        return logits

    def described(self) -> dict[str, Any]:
        """JSON values, as `describe` gives them for layers that are known."""
        kind = type(self.inner)
        return {"kind": "live", "class": f"{kind.__module__}.{kind.__qualname__}", "token": self.token}


def revive(description: dict[str, Any]) -> Live:
    """A new copy of the described module. Raises AuditError in another process than the one that keeps it."""
    inner = _KEPT.get(description["token"])
    if inner is None:
        raise AuditError(f"a {description['class']} can only be audited by the process that has it")
    return Live(copy.deepcopy(inner), description["token"])
