"""The rows of a leaderboard as files: one record per defense, its raw scores and its pictures beside it.

``<root>/<suite>/<dataset>/<defense>/<hash>.json``, and beside it the weights that were attacked, where they are small:
``<hash>-seed<n>.safetensors``; an external result lies under ``external/<dataset>/<hash of the row
that it is about>/``. The hash is that of the record's own bytes, so that a row cannot change under its name.
"""

import hashlib
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from audit.errors import AuditError
from audit.records import DefenseResult, Record, SeedResult
from audit.suites import CURRENT, SUITES

ROOT = Path(__file__).parent / "records"
UNDEFENDED = "data-free-conversion"
EXTERNAL = "external"
# It becomes a folder's.
NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
WEIGHTS = re.compile(r"([0-9a-f]{64})-seed(0|[1-9][0-9]{0,9})\.safetensors")
MOST_WEIGHTS = 4 * 2**20  # bytes of a row's; more stay in its archive


@dataclass(frozen=True)
class Entry:
    """A record of one requested defense, and where it lies."""

    record: Record
    path: Path

    @property
    def hash(self) -> str:
        return self.path.stem

    @property
    def scores(self) -> Path:
        """Raw scores, as `audit.recompute` reads them."""
        return self.path.with_suffix(".npz")

    @property
    def pictures(self) -> Path | None:
        path = self.path.with_suffix(".png")
        return path if path.is_file() else None

    @property
    def weights(self) -> dict[int, Path]:
        """Files of the targets that were attacked, by seed; none where they are too large to lie here."""
        return weights_beside(self.path)

    @property
    def verification(self) -> Path:
        """What `verify` found, by somebody other than the submitter; it may not be there."""
        return self.path.with_suffix(".verified.json")

    @property
    def defense(self) -> str:
        return audited(self.record)

    def results(self) -> list[DefenseResult]:
        """The audited defense under each seed."""
        return results_of(self.record, self.defense)


def weights_beside(path: Path) -> dict[int, Path]:
    """Files of the targets of the row whose record ``path`` is, by seed."""
    named = {WEIGHTS.fullmatch(other.name): other for other in path.parent.glob(f"{path.stem}-seed*")}
    return dict(sorted((int(match[2]), other) for match, other in named.items() if match))


def audited(record: Record) -> str:
    """The one defense that a row is about. Raises AuditError where the record is about none or several."""
    names = {d.defense for result in record.results for d in result.defenses if d.requested}
    if len(names) != 1:
        raise AuditError(f"a row is about one defense; this record is about {len(names)}: {', '.join(sorted(names))}")
    return names.pop()


def results_of(record: Record, name: str) -> list[DefenseResult]:
    """One defense under each seed. Raises AuditError where a seed lacks it."""
    found = [next((d for d in result.defenses if d.defense == name), None) for result in record.results]
    if missing := [result.seed for result, defense in zip(record.results, found, strict=True) if defense is None]:
        raise AuditError(f"seed {missing[0]} has no result of {name}")
    return [defense for defense in found if defense is not None]


def suite_of(record: Record) -> str:
    """The suite that its row stands under: the newest version that it went through of what 'all' begins with.

    Raises AuditError where it went through none as a whole, or through one that this version does not know.
    """
    if unknown := [name for name in record.suites if name not in SUITES]:
        raise AuditError(
            f"the record names the suite '{unknown[0]}', which is unknown here; known: {', '.join(SUITES)}"
        )
    if not record.suites:
        raise AuditError("no suite was run as a whole, so there is no board for it: run the audit with --attack all")
    for current in CURRENT:
        versions = [name for name in record.suites if _family(name) == _family(current)]
        if versions:
            return max(versions, key=lambda name: int(name.rpartition("-v")[2]))
    return record.suites[0]


def _family(suite: str) -> str:
    """'class-leakage' of 'class-leakage-v2'."""
    return suite.rpartition("-v")[0]


def changed_options(record: Record) -> tuple[str, ...]:
    """'measure.batch_size=50', ...: options passed beside the defense's own, that make the row one of another kind.

    'defense.time_steps' is one: it reaches the undefended network that the defense is compared with.
    """
    name = audited(record)
    shared = {
        f"defense.{field}"
        for r in record.results
        for d in r.defenses
        if d.defense == UNDEFENDED != name
        for field in d.settings
    }
    return tuple(
        f"{key}={value}"
        for key, value in sorted(record.settings_passed.items())
        if key in shared or key.partition(".")[0] not in ("defense", name)
    )


def row(record: Record, defense: str) -> Record:
    """The part of a run that is the row of ``defense``: it, and the undefended network that it is compared with."""
    results_of(record, defense)

    def part(result: SeedResult) -> SeedResult:
        kept = [d for d in result.defenses if d.defense in (defense, UNDEFENDED)]
        marked = tuple(d.model_copy(update={"requested": d.defense == defense}) for d in kept)
        return result.model_copy(update={"defenses": marked})

    others = {d.defense for result in record.results for d in result.defenses} - {defense, UNDEFENDED}
    results = tuple(part(result) for result in record.results)
    fields = {f"defense.{field}" for result in results for d in result.defenses for field in d.settings}
    passed = {
        key: value
        for key, value in record.settings_passed.items()
        if key.partition(".")[0] not in others and (not key.startswith("defense.") or key in fields)
    }
    return record.model_copy(update={"results": results, "settings_passed": passed})


def joined(rows: Sequence[Record], where: str) -> tuple[Record, ...]:
    """The inverse of `row`: one record of all targets for each set of teachers and evaluators.

    That of most seeds comes first, and of those the one of most rows. The rows may be of several runs that ask the same
    of other defenses; a record's command has a line for each. Code grows: where it differs, the lines say which it was.
    Raises AuditError where more differs, or a defense comes twice beside the same teachers.
    """
    if not rows:
        raise AuditError(f"there is no row in {where}")
    first = rows[0]
    for other in rows:
        unlike = [name for name, mine, its in zip(COMMON, _common(first), _common(other), strict=True) if mine != its]
        if unlike:
            raise AuditError(f"the rows in {where} come from runs that differ in {', '.join(unlike)}")
    together: dict[tuple[str, ...], list[Record]] = {}
    for row in rows:
        together.setdefault(networks(row), []).append(row)
    for group in together.values():
        names = [audited(row) for row in group]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise AuditError(f"{where} has several rows of '{twice}'; name the one that is meant")
    several = len({_origin(row) for row in rows}) > 1
    largest = sorted(together.values(), key=lambda group: (len(group[0].results), len(group)), reverse=True)
    return tuple(_one(group, several) for group in largest)


def _one(rows: Sequence[Record], several: bool) -> Record:
    first = rows[0]
    commands = [row.command + (f"  # {_origin(row)}" if several else "") for row in rows]
    return first.model_copy(
        update={
            "command": "\n".join(dict.fromkeys(commands)),
            "results": tuple(_joined([row.results[i] for row in rows]) for i in range(len(first.results))),
            "settings_passed": {key: value for row in rows for key, value in row.settings_passed.items()},
        }
    )


# What rows of one table share.
COMMON = ("data", "settings", "suites")


def _common(record: Record) -> tuple[object, ...]:
    settings = (record.profile, record.settings_resolved)
    return record.dataset, settings, record.suites


def networks(record: Record) -> tuple[str, ...]:
    """What its numbers are beside: nothing of one teacher is compared with what is of another."""
    return tuple(hash for result in record.results for hash in (result.teacher.hash, result.evaluator.hash))


def _origin(record: Record) -> str:
    """'revision 7e9846c4b285, teacher f8302683, evaluator 5b473484': the code and the networks that a row is of."""
    teachers = " ".join(result.teacher.hash[:8] for result in record.results)
    code = record.environment.git_revision or f"code {record.environment.code_hash[:12]}"
    return f"revision {code}, teacher {teachers}, evaluator {record.results[0].evaluator.hash[:8]}"


def _joined(results: Sequence[SeedResult]) -> SeedResult:
    """One seed with the targets of all; one that a row audits and another compares with counts as audited."""
    found: dict[str, DefenseResult] = {}
    for defense in (d for result in results for d in result.defenses):
        if defense.defense not in found or defense.requested:
            found[defense.defense] = defense
    return results[0].model_copy(update={"defenses": tuple(found[name] for name in sorted(found))})


def scores_of_row(record: Record, scores: Mapping[str, object]) -> list[str]:
    """Names of the raw scores that belong to a row: all but those of targets that it leaves out."""
    kept = {d.defense for result in record.results for d in result.defenses}
    kept |= {f"{name} (untrained)" for name in kept}
    places = {control.attack for result in record.results for control in result.controls} | kept
    return [name for name in scores if _place(name) in places or _place(name).startswith(("private ", "real images"))]


def _place(name: str) -> str:
    """'privatesnn' of 'seed 0/privatesnn/reconversion/labels'."""
    return name.split("/")[1] if "/" in name else ""


def place(record: Record, name: str | None = None) -> PurePosixPath:
    """Where the row belongs, relative to the root; ``name`` is the hash of its file, if it is one already.

    Raises AuditError where it belongs nowhere.
    """
    for part in (record.dataset.name, audited(record)):
        if not NAME.fullmatch(part):
            raise AuditError(f"there is no place for a row with the name {part[:80]!r}")
    file = f"{name or record.hash()}.json"
    if record.external is not None:
        return PurePosixPath(EXTERNAL, record.dataset.name, record.external.about, file)
    return PurePosixPath(suite_of(record), record.dataset.name, audited(record), file)


def add(
    record: Record,
    scores: bytes,
    pictures: bytes | None,
    root: Path = ROOT,
    weights: Mapping[int, bytes] = MappingProxyType({}),
) -> Entry:
    """Write a row and what belongs to it: all of it or nothing.

    ``weights`` are files of the targets by seed, and are left out where they are more than `MOST_WEIGHTS`. Raises
    AuditError where the row is there already, since nothing is overwritten, and where it cannot be written.
    """
    entry = Entry(record, root / place(record))
    files = {entry.scores: scores} | ({} if pictures is None else {entry.path.with_suffix(".png"): pictures})
    files |= _small(entry, weights)
    try:
        if entry.path.exists():
            raise AuditError(f"{entry.path} is there already: this very record has its row")
        _place_files(files | {entry.path: record.text().encode()})  # the record last: without it, nothing is a row
    except OSError as error:
        raise AuditError(f"cannot write {entry.path}: {error.strerror or error}") from error
    return entry


def add_weights(entry: Entry, weights: Mapping[int, bytes]) -> None:
    """Put them beside a row that has none, where they are small. Raises AuditError where they cannot be written."""
    try:
        if (files := _small(entry, weights)) and not entry.weights:
            _place_files(files)
    except OSError as error:
        raise AuditError(f"cannot write beside {entry.path}: {error.strerror or error}") from error


def _small(entry: Entry, weights: Mapping[int, bytes]) -> dict[Path, bytes]:
    if sum(map(len, weights.values())) > MOST_WEIGHTS:
        return {}
    return {entry.path.with_name(f"{entry.hash}-seed{seed}.safetensors"): weights[seed] for seed in weights}


def remove(entry: Entry) -> None:
    """What `add` wrote, the record first, and the folders of its place where nothing else is in them."""
    others = (entry.path.with_suffix(suffix) for suffix in (".npz", ".png"))
    for path in (entry.path, *others, *entry.weights.values()):
        path.unlink(missing_ok=True)
    _remove_empty(entry.path.parents[: len(place(entry.record).parts) - 1])


def _place_files(files: Mapping[Path, bytes]) -> None:
    """Files of one folder, each moved there in order when all are written; where one cannot be, none is left."""
    folder = next(iter(files)).parent
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    moved: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".row-", ignore_cleanup_errors=True) as work:
            written = {Path(work, f"{path.name}.tmp"): path for path in files}
            for temporary, path in written.items():
                temporary.write_bytes(files[path])
            for temporary, path in written.items():
                temporary.replace(path)
                moved.append(path)
    except BaseException:
        with suppress(OSError):
            for path in reversed(moved):
                path.unlink()
        _remove_empty(missing)
        raise


def _remove_empty(folders: Sequence[Path]) -> None:
    """Up to the first that holds something."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def load(root: Path = ROOT) -> list[Entry]:
    """Every row under ``root``, by path. Raises AuditError naming the first file that is not where it belongs."""
    if not root.is_dir():
        raise AuditError(f"there are no records in {root}: it is no folder; name another with --records")
    return [_checked(path, root) for path in sorted(_records(root))]


def load_folder(folder: Path) -> list[Entry]:
    """Every row under one folder of a board, without a check of its place."""
    return [Entry(Record.read(path), path) for path in sorted(_records(folder))]


def _records(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*.json") if not path.name.endswith(".verified.json"))


def _checked(path: Path, root: Path) -> Entry:
    content = path.read_bytes()
    record = Record.parse(content, str(path))
    # Of the file as it is: a record of an earlier schema keeps its name.
    belongs = root / place(record, hashlib.sha256(content).hexdigest())
    if path != belongs:
        raise AuditError(f"{path} does not say what its place says: by its content it is {belongs}")
    return Entry(record, path)
