"""The folder of a run: claimed before the work begins, filled in one move when it is done."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from audit import temporary
from audit.errors import AuditError
from audit.reporting.report import write_report
from audit.reporting.sheet import write_sheet
from audit.run import Finished
from audit.spiking.files import save_network
from leaderboards.tables import build, readable, write_all

RECORD = "record.json"
# What a run's folder holds beside the record.
PARTS = ("tables", "targets", "pictures", "scores.npz", "report.html")


def claim(folder: Path) -> None:
    """Make sure that a run can be written to ``folder``, before hours are spent on it; leaves nothing behind.

    Raises AuditError where it holds something already or cannot be written.
    """
    try:
        if (folder / RECORD).exists():
            raise AuditError(f"--out {folder} already holds a run; choose another folder or remove it")
        if folder.is_dir():
            _undo(folder)
            temporary.clear(folder)
        if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
            raise AuditError(f"--out {folder} is not an empty folder; choose another")
        ancestor = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
        temporary.clear(ancestor)
        with tempfile.TemporaryDirectory(dir=ancestor, prefix=".audit-"):
            pass
    except OSError as error:
        raise AuditError(f"--out {folder} cannot be written: {error.strerror or error}; choose another") from error


def _undo(folder: Path) -> None:
    """Remove what a process that was killed had moved here of a run, whose record it had not."""
    if any((work / RECORD).exists() for work in temporary.left(folder)):
        for name in PARTS:
            temporary.remove(folder / name)


def write_run(finished: Finished, folder: Path) -> None:
    """Write record, tables, report and targets to a hidden folder and rename them to ``folder``: all of them or none.

    An empty folder that is there already is kept and filled, the record last: it may be a mount, a link, or all that
    its user may write to.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = folder if folder.is_dir() else folder.parent
        work = temporary.place(beside)
        try:
            _fill(work, finished)
            if folder.is_dir():
                for part in sorted(work.iterdir(), key=lambda part: part.name == RECORD):
                    part.rename(folder / part.name)
            else:
                work.rename(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AuditError(f"cannot write the run to {folder}: {reason}") from error


def _fill(folder: Path, finished: Finished) -> None:
    """Everything of a run, the record last."""
    (folder / "targets").mkdir(parents=True)
    write_all(finished.record, folder / "tables")
    for (seed, name), network in finished.targets.items():
        save_network(network.cpu(), folder / "targets" / f"{name}-seed{seed}.safetensors")
    arrays: dict[str, Any] = {name: tensor.cpu().numpy() for name, tensor in finished.scores.items()}
    np.savez_compressed(folder / "scores.npz", **arrays)
    tables = [build(finished.record, name) for name in readable(finished.record)]
    for name, pictures in finished.pictures.items():
        write_sheet(pictures, folder / "pictures" / f"{name}.png")
    write_report(finished.record, tables, finished.pictures, folder / "report.html")
    finished.record.write(folder / RECORD)
