"""Tiny ImageNet (Stanford CS231n) in its official layout; wnids.txt says which classes take part."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from audit.data.base import Dataset, data_root
from audit.data.files import Files, decode_dataset, entries, images_in, labelled
from audit.errors import AuditError

FOLDER = "tiny-imagenet-200"
LAYOUT = (
    f"{FOLDER}/wnids.txt, {FOLDER}/train/<wnid>/images/*.JPEG, "
    f"{FOLDER}/val/val_annotations.txt and {FOLDER}/val/images/*.JPEG"
)


def read(root: Path | None, image_size: int | None, limits: Mapping[str, int]) -> Dataset:
    """RGB, 64x64; the labelled validation images are the test split. Labels follow wnids.txt, subsets of it work."""
    folder = data_root("tinyimagenet", root, LAYOUT) / FOLDER
    wnids = tuple(dict.fromkeys(line.strip() for line in _lines(folder / "wnids.txt") if line.strip()))
    if len(wnids) < 2:
        raise AuditError(f"{folder / 'wnids.txt'} lists {len(wnids)} classes; an audit needs two or more")
    train = labelled([images_in(folder / "train" / wnid / "images", LAYOUT) for wnid in wnids])
    splits = (train, _validation(folder / "val", wnids))
    return decode_dataset("tinyimagenet", _names(folder / "words.txt", wnids), splits, image_size, limits)


def _validation(folder: Path, wnids: Sequence[str]) -> Files:
    """The images that val_annotations.txt gives to ``wnids``, class by class."""
    annotations = folder / "val_annotations.txt"
    present = set(entries(folder / "images", LAYOUT)[1])
    groups: dict[str, list[Path]] = {wnid: [] for wnid in wnids}
    for number, line in enumerate(_lines(annotations), 1):
        match line.split("\t"):
            case [name, wnid, *_] if wnid in groups:
                if name not in present:
                    raise AuditError(f"{annotations} names {folder / 'images' / name}, which is missing; unpack again")
                groups[wnid].append(folder / "images" / name)
            case [_] if line.strip():
                raise AuditError(f"{annotations}, line {number}: no tab between file name and wnid; unpack again")
    if empty := [wnid for wnid, group in groups.items() if not group]:
        raise AuditError(f"{annotations} names no image of the class {empty[0]}; expected {LAYOUT}")
    return labelled([sorted(group) for group in groups.values()])


def _names(words: Path, wnids: Sequence[str]) -> tuple[str, ...]:
    """The first synonym of each class where words.txt is there; the wnid beside it where two classes share it."""
    synonyms = dict(line.split("\t", 1) for line in _lines(words) if "\t" in line) if words.is_file() else {}
    names = [synonyms.get(wnid, wnid).split(",")[0].strip() for wnid in wnids]
    uses = Counter(names)
    return tuple(name if uses[name] == 1 else f"{name} ({wnid})" for name, wnid in zip(names, wnids, strict=True))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise AuditError(f"cannot read {path} ({reason}); expected {LAYOUT}") from error
