"""From the folder of a run to the archive that is submitted: one defense's row, its raw scores and its targets."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from audit.errors import AuditError
from audit.records import NOT_SUBMITTABLE, External, Record, Submission
from leaderboards.archive import ATTACK, DEFENSE, PICTURES, RECORD, SCORES, pack, target_name
from leaderboards.entries import audited, results_of, row, scores_of_row


def submit(
    run: Path,
    submission: Submission,
    out: Path,
    defense: str | None = None,
    code: Path | None = None,
    about: str | None = None,
) -> Record:
    """Write the archive ``out`` of a run's folder; the row that it holds comes back.

    ``defense``: which of several audited ones; ``code``: the file that registers it, or the attack of an external
    result, for a re-run by those who trust it; ``about``: the hash of the record that an external result is about.

    Raises AuditError where something is missing or the folder holds no run.
    """
    whole = Record.read(run / "record.json")
    name = defense or audited(whole)
    if reasons := [d.notes[NOT_SUBMITTABLE] for d in results_of(whole, name) if NOT_SUBMITTABLE in d.notes]:
        raise AuditError(f"{name} cannot be submitted: {reasons[0]}")
    record = row(whole, name).model_copy(update={"submission": submission})
    if about is not None:
        record = record.model_copy(update={"external": _external(about)})
    files = {RECORD: record.text().encode(), SCORES: scores_of(run / SCORES, record)}
    files |= {target_name(name, seed): content for seed, content in targets_of(run, record).items()}
    if (pictures := pictures_of(run, name)) is not None:
        files[PICTURES] = pictures
    if code is not None:
        files[DEFENSE if about is None else ATTACK] = _read(code)
    pack(files, submission, out)
    return record


def _external(about: str) -> External:
    try:
        return External(about=about)
    except ValidationError as error:
        raise AuditError(f"--external {about[:80]!r} is not the hash of a row: the name of its .json file") from error


def scores_of(path: Path, record: Record) -> bytes:
    """The raw scores that belong to the row."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return packed({name: stored[name] for name in scores_of_row(record, stored)})
    except (OSError, ValueError) as error:
        raise AuditError(f"cannot read the raw scores {path}: {error}") from error


def targets_of(run: Path, record: Record) -> dict[int, bytes]:
    """The files of the row's targets, by seed. Raises AuditError where one cannot be read."""
    return {result.seed: _read(run / target_name(audited(record), result.seed)) for result in record.results}


def pictures_of(run: Path, defense: str) -> bytes | None:
    """The picture grid of a defense, where the run has one. Raises AuditError where it cannot be read."""
    path = run / "pictures" / f"{defense}.png"
    return _read(path) if path.is_file() else None


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of an .npz."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AuditError(f"cannot read {path}: {error.strerror}") from error
