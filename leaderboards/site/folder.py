"""The folder of a site: written beside, then moved to its place; only an earlier site is ever replaced."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from audit.errors import AuditError

MARKER = ".snn-privacy-audit-site"


def replace_folder(out: Path, files: Mapping[str, bytes | Path]) -> list[Path]:
    """Write ``files``, relative name -> content or the file to copy, as the whole of ``out``. Returns their paths.

    Raises AuditError where ``out`` holds anything that an earlier call did not write, or cannot be written; then it is
    as it was.
    """
    check_folder(out)
    out = out.absolute()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".site-", ignore_cleanup_errors=True) as made:
            work, earlier = Path(made, "site"), Path(made, "earlier")
            _fill(work, files)
            if out.is_dir():
                out.rename(earlier)
            try:
                work.rename(out)
            except OSError:
                if earlier.is_dir():
                    earlier.rename(out)
                raise
    except OSError as error:
        raise AuditError(f"cannot write the site to {out}: {error.strerror or error}") from error
    return [out / name for name in sorted(files)]


def check_folder(out: Path) -> None:
    """Raises AuditError where ``out`` holds anything that an earlier `replace_folder` did not write."""
    try:
        _check(out)
    except OSError as error:
        raise AuditError(f"cannot read {out}: {error.strerror or error}") from error


def _check(out: Path) -> None:
    if not os.path.lexists(out):
        return
    if out.is_symlink() or not out.is_dir():
        raise AuditError(f"{out} is no folder of its own, so no site can be put there; choose another")
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir() or path.is_symlink()}
    if not found and not any(out.iterdir()):
        return
    if MARKER not in found:
        raise AuditError(f"{out} is neither empty nor an earlier site; choose another folder")
    ours = {MARKER, *(out / MARKER).read_text(encoding="utf-8").splitlines()}
    if foreign := sorted(found - ours):
        raise AuditError(f"{out} holds {foreign[0]}, which is not of the site; move it away or choose another folder")


def _fill(work: Path, files: Mapping[str, bytes | Path]) -> None:
    for name, content in files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, path)
        else:
            path.write_bytes(content)
    (work / MARKER).write_text("".join(f"{name}\n" for name in sorted(files)), encoding="utf-8")
