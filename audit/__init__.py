"""Privacy auditing and evaluation of spiking neural networks: ``from audit import audit``."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit.api import audit as audit
    from audit.api import teacher_images as teacher_images

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The functions, loaded when they are asked for: the records need no torch."""
    if name in ("audit", "teacher_images"):
        from audit import api

        return getattr(api, name)
    raise AttributeError(f"module 'audit' has no attribute '{name}'")
