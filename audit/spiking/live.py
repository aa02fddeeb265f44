"""Modules that no description holds: anybody's architecture, kept by the process that audits it."""

import copy
from typing import Any

from torch import Tensor, nn

from audit.errors import AuditError

DESCRIBED = (
    "an audit.spiking.network.SpikingNetwork, or an nn.Sequential of Conv2d, Linear, AvgPool2d, Dropout, Flatten "
    "and ReLU"
)
_KEPT: dict[str, nn.Module] = {}


class Live(nn.Module):
    """Anybody's module, images [N, C, H, W] -> logits [N, K], as a target like the others.

    A copy is kept under ``token``, which names class and weights, so that stages can build it again in this process.
    In a file there is only its state: another process cannot build it, and so its run cannot be submitted.
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
        return {"kind": "live", "class": class_of(self), "token": self.token}

    def only_here(self) -> str:
        """Why no other process can build it, and what to do about that."""
        return _only_here(class_of(self))


def class_of(network: nn.Module) -> str:
    """'module.Class' of the module that its owner wrote."""
    kind = type(network.inner if isinstance(network, Live) else network)
    return f"{kind.__module__}.{kind.__qualname__}"


def revive(description: dict[str, Any]) -> Live:
    """A new copy of the described module. Raises AuditError in another process than the one that keeps it."""
    inner = _KEPT.get(description["token"])
    if inner is None:
        raise AuditError(_only_here(description["class"]))
    return Live(copy.deepcopy(inner), description["token"])


def _only_here(kind: str) -> str:
    return (
        f"the layers of a {kind} cannot be described in a file, so that only the process that has it can build it; "
        f"to load it elsewhere or to submit it, build it as {DESCRIBED}, and audit that"
    )
