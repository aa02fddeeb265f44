"""What a data set is, and where it is looked for."""

import os
from dataclasses import dataclass
from pathlib import Path

from audit.contracts import Images
from audit.errors import AuditError


@dataclass(frozen=True)
class Dataset:
    """The official splits; labels index ``classes``, and every class occurs in both splits."""

    name: str
    classes: tuple[str, ...]
    train: Images
    test: Images


def data_root(name: str, root: Path | None, layout: str) -> Path:
    """``root``, or the folder in the environment variable AUDIT_DATA. Raises AuditError where there is none."""
    origin = "--data-root"
    if root is None and (variable := os.environ.get("AUDIT_DATA")):
        root, origin = Path(variable), "AUDIT_DATA"
    if root is None:
        raise AuditError(f"{name} needs a data folder with {layout}; pass --data-root or set AUDIT_DATA")
    root = root.expanduser()
    if not root.is_dir():
        raise AuditError(f"{origin} {root} is not a folder; {name} expects {layout} in it")
    return root
