"""The archive of a submission: a zip file that a stranger packed, read with limits and without running any of it."""

import hashlib
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from audit.errors import AuditError
from audit.records import Submission
from audit.strict_json import strict_json
from audit.zips import Limits, read_members

MANIFEST = "manifest.json"
RECORD = "record.json"
SCORES = "scores.npz"
PICTURES = "pictures.png"
DEFENSE = "defense.py"
ATTACK = "attack.py"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
LARGEST_PICTURE = 2**14  # pixels of a side
TARGET = re.compile(r"targets/[A-Za-z0-9_-]{1,80}-seed[0-9]{1,10}\.safetensors")
NAMES = (MANIFEST, RECORD, SCORES, PICTURES, DEFENSE, ATTACK)

# Weights and float features hardly compress; what does so a hundredfold is a bomb.
LIMITS = Limits(files=200, packed=2 * 2**30, unpacked=4 * 2**30, ratio=200)


def target_name(defense: str, seed: int) -> str:
    """Where an archive, or the folder of a run, has a target."""
    return f"targets/{defense}-seed{seed}.safetensors"


class File(BaseModel):
    """What the manifest says of a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0)]


class Manifest(BaseModel):
    """Every file of the archive but itself, and who stands behind them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    submission: Submission
    files: dict[str, File]


def pack(files: Mapping[str, bytes], submission: Submission, path: Path) -> None:
    """Write the archive; the same files and submission give the same bytes. Raises AuditError where it is there."""
    listed = {
        name: File(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)) for name, content in files.items()
    }
    manifest = Manifest(submission=submission, files=dict(sorted(listed.items())))
    whole = {MANIFEST: (manifest.model_dump_json(indent=1) + "\n").encode(), **dict(sorted(files.items()))}
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        if path.exists():
            raise AuditError(f"{path} is there already; choose another name with --out")
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in whole.items():
                entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                entry.external_attr = 0o644 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, content)
        temporary.replace(path)
    except OSError as error:
        raise AuditError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def unpack(path: Path) -> tuple[Manifest, dict[str, bytes]]:
    """Manifest and contents by name, all in memory: nothing of a stranger's choosing is written anywhere.

    Raises AuditError for the first thing that is wrong with the file, for a name that has no place in an archive, and
    where contents and manifest do not agree.
    """
    contents = read_members(path, str(path), LIMITS, lambda name: name in NAMES or bool(TARGET.fullmatch(name)))
    return _listed(contents, path), contents


def _listed(contents: Mapping[str, bytes], path: Path) -> Manifest:
    if MANIFEST not in contents:
        raise AuditError(f"{path} has no {MANIFEST}: it was not made by python -m audit submit")
    try:
        manifest = Manifest.model_validate(strict_json(contents[MANIFEST]))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise AuditError(f"{path}: {MANIFEST}: {where}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise AuditError(f"{path}: {MANIFEST}: {error}") from error
    there = set(contents) - {MANIFEST}
    if missing := set(manifest.files) - there:
        raise AuditError(f"{path}: {min(missing)} is in the manifest and not in the archive")
    if unlisted := there - set(manifest.files):
        raise AuditError(f"{path}: {min(unlisted)} is not in the manifest")
    for name, file in manifest.files.items():
        if (len(contents[name]), _sha256(contents[name])) != (file.bytes, file.sha256):
            raise AuditError(f"{path}: {name} does not have the hash that the manifest names")
    return manifest


def check_picture(content: bytes) -> None:
    """Raises AuditError where the pictures are no image: a browser will show them."""
    sides = [int.from_bytes(content[at : at + 4], "big") for at in (len(PNG), len(PNG) + 4)]
    if not content.startswith(PNG) or not all(0 < side <= LARGEST_PICTURE for side in sides):
        raise AuditError(f"{PICTURES} is no PNG image of at most {LARGEST_PICTURE:,} pixels a side")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
