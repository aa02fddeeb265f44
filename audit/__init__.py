"""Privacy auditing and evaluation of spiking neural networks: ``from audit import audit``."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit.api import audit as audit

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`audit.audit`, loaded when it is asked for: the records need no torch."""
    if name == "audit":
        from audit.api import audit

        return audit
    raise AttributeError(f"module 'audit' has no attribute '{name}'")
