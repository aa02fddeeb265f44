"""Every leakage measurement of a record once more, from the raw scores beside it: no attack, no network is needed."""

import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from audit.answers import SIGNAL, Answers
from audit.errors import AuditError
from audit.evasions import together
from audit.networks.vgg import NETWORKS, vgg
from audit.observation import EVALUATOR_DISTANCE, INCEPTION_DISTANCE, Observation, Yardstick, measure
from audit.records import AttackResult, Measurement, Record, SeedResult
from audit.robustness import KINDS as CONTRASTS
from audit.robustness import ON_CHIP, Contrast
from audit.store import hash_tensors
from audit.zips import Limits, read_members

UNFIT = "no better than chance"
LIMITS = Limits(files=50_000, packed=2**30, unpacked=2 * 2**30, ratio=1000)
MOST_VALUES = 2**28
# Of all distances: an hour on one core. A pair of images costs as much as PAIR features do, however few it has.
MOST_PRODUCTS = 10**13
PAIR = 64
# Data sets whose smallest class has nine tenths of the mean, or more.
EVEN, SHARE = ("cifar10", "cifar100", "digits", "tinyimagenet"), 0.9


def read_scores(source: Path | bytes, where: str = "") -> dict[str, Tensor]:
    """What a run wrote as scores.npz, a file or its bytes. Nothing in it is ever executed.

    Raises AuditError naming the file (or ``where``) and what is wrong: see `read_members`; an array that is not of
    numbers, or whose shape is not that of its data; more than `MOST_VALUES` numbers.
    """
    where = where or (f"the raw scores {source}" if isinstance(source, Path) else "the raw scores")
    members = read_members(source, where, LIMITS, lambda name: name.endswith(".npy"))
    found: dict[str, Tensor] = {}
    values = 0
    for name, content in members.items():
        found[name.removesuffix(".npy")] = rows = _array(content, f"{where}: {name}")
        if (values := values + rows.numel()) > MOST_VALUES:
            raise AuditError(f"{where}: more than {MOST_VALUES:,} numbers; no more are checked")
    return found


def _array(content: bytes, where: str) -> Tensor:
    """The array of an .npy file, allocated only after its header and its data were found to agree."""
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(file, max_header_size=1000)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise AuditError(f"{where} has no readable header: {error}") from error
    if dtype.kind not in "fiub" or fortran:
        raise AuditError(f"{where} holds {dtype} and not numbers in rows")
    data = content[file.tell() :]
    if math.prod(shape) * dtype.itemsize != len(data) or min(shape, default=1) < 0:
        raise AuditError(f"{where} has a shape, {list(shape)}, that is not that of its data")
    try:
        return torch.from_numpy(np.frombuffer(bytearray(data), dtype).reshape(shape))
    except (TypeError, ValueError) as error:
        raise AuditError(f"{where} cannot be read: {error}") from error


def recomputed(record: Record, scores: Mapping[str, Tensor]) -> Iterator[tuple[str, tuple[Measurement, ...]]]:
    """(place, measurements) of everything of the record that has raw scores, 'seed 0/privatesnn/reconversion', in the
    order of `scored_places`.

    Raises AuditError where scores are missing, do not have the hash that the record names, are not finite or not one
    row per image, are none of the record's evaluators or not of as many images as its settings say, belong to nothing
    in the record, or are more than can be checked.
    """
    known: set[str] = set()
    products = 0
    for result in record.results:
        widths = _widths(record, result)
        for place, attack in scored_places(result):
            own = _tensors(scores, place)
            known.add(place)
            if hash_tensors(own) != attack.scores_hash:
                raise AuditError(f"the raw scores of {place} do not have the hash that the record names")
            if attack.evidence == "membership":
                yield place, _answers(own, place, record).measured()
                continue
            if attack.evidence == "adversarial":
                yield place, _contrast(own, place, attack, len(record.dataset.classes)).measured()
                continue
            classes = record.dataset.classes
            found = _observation(own, place, len(classes))
            control_images = attack in result.controls
            per_class = images_per_class(record, result) if control_images else attack.images // len(classes)
            sample, control = _yardsticks(result.seed, per_class)
            known |= {sample, control}
            private, real = (_observation(_tensors(scores, name), name, len(classes)) for name in (sample, control))
            yardstick = Yardstick(private, real, classes, _unfit(place, attack, result, len(classes)))
            for name, each in ((place, found), (sample, private), (control, real)):
                _check_seen(name, each, widths, 1 + (result.second_evaluator is not None))
            _check_count(place, found.labels, attack, control_images, len(classes))
            _check_drawn(sample, private.labels, _reference_images(record), "teacher", record)
            _check_drawn(control, real.labels, per_class, "test", record)
            if control_images:
                _check_drawn(place, found.labels, per_class, "test", record)
            products += sum((d + PAIR) * (d + len(found.labels) + len(private.labels)) ** 2 for d in widths.values())
            if products > MOST_PRODUCTS:
                raise AuditError(f"{place}: with it there are more images and features than can be checked in time")
            yield place, measure(found, yardstick)
    for name in scores:
        if not any(name.startswith(f"{place}/") for place in known):
            raise AuditError(f"the raw scores '{name[:120]}' belong to nothing in the record")


def recomputed_together(record: Record, scores: Mapping[str, Tensor]) -> Iterator[tuple[str, tuple[Measurement, ...]]]:
    """(place, measurements) of each defense's evasions together, 'seed 0/privatesnn', in the record's order.

    Raises AuditError where scores are missing or are none.
    """
    classes = len(record.dataset.classes)
    for result in record.results:
        for defense in result.defenses:
            where = f"seed {result.seed}/{defense.defense}"
            contrasts = {}
            for attack in defense.attacks:
                if attack.evidence == "adversarial" and attack.scores_hash is not None:
                    place = f"{where}/{attack.attack}"
                    contrasts[attack.attack] = _contrast(_tensors(scores, place), place, attack, classes)
            yield where, together(defense.attacks, contrasts)


def _yardsticks(seed: int, per_class: int) -> tuple[str, str]:
    """Under what names the private sample and as many real images are kept."""
    return f"seed {seed}/private sample", f"seed {seed}/real images, {per_class} per class"


def scored_places(result: SeedResult) -> Iterator[tuple[str, AttackResult]]:
    """Everything of a seed that has raw scores, by the name that they are kept under."""
    seed = f"seed {result.seed}"
    for control in result.controls:
        yield f"{seed}/{control.attack}", control
    for defense in result.defenses:
        sets = ((defense.defense, defense.attacks), (f"{defense.defense} (untrained)", defense.untrained))
        for target, attacks in sets:
            for attack in attacks:
                if attack.scores_hash is not None:
                    yield f"{seed}/{target}/{attack.attack}", attack


def _tensors(scores: Mapping[str, Tensor], place: str) -> dict[str, Tensor]:
    own = {name.removeprefix(f"{place}/"): rows for name, rows in scores.items() if name.startswith(f"{place}/")}
    if not own:
        raise AuditError(f"there are no raw scores of {place}")
    return own


def images_per_class(record: Record, result: SeedResult) -> int:
    """Of the controls: as many as of the largest attack, though a class may have fewer test images than that."""
    classes = len(record.dataset.classes)
    largest = max((attack.images for defense in result.defenses for attack in defense.attacks), default=0)
    return largest // classes or record.dataset.counts["test"] // classes


def _reference_images(record: Record) -> int:
    """Of each class in the private sample, as `Observer.sample` draws it."""
    return -(-int(record.settings_resolved["measure"]["reference_images"]) // len(record.dataset.classes))


def _widths(record: Record, result: SeedResult) -> dict[str, int]:
    """How many columns the features of each distance have: as the networks behind them have units."""
    evaluator = result.evaluator
    if evaluator.architecture not in NETWORKS:
        raise AuditError(f"an evaluator '{evaluator.architecture[:80]}' is no network that is known here")
    width, hidden = evaluator.settings["width"], evaluator.settings["hidden"]
    with torch.device("meta"):
        network = vgg(evaluator.architecture, record.dataset.image_shape, len(record.dataset.classes), width, hidden)
    last = network[-1]
    assert isinstance(last, nn.Linear)
    widths = {EVALUATOR_DISTANCE: last.in_features}
    if record.settings_resolved["measure"]["inception_weights"] is not None:
        from audit.metrics.inception import NUM_FEATURES

        widths[INCEPTION_DISTANCE] = NUM_FEATURES
    return widths


def _check_drawn(place: str, labels: Tensor, per_class: int, part: str, record: Record) -> None:
    """``per_class`` real images of every class, or all of a class that has fewer; how many those are, the record does
    not say of a class, but it does of the whole part."""
    classes, there = len(record.dataset.classes), record.dataset.counts[part]
    counts = torch.bincount(labels, minlength=classes)
    least = 1
    if record.dataset.name in EVEN:  # less what rounding takes, where evaluator and teacher share a class
        least = max(least, min(per_class, int(SHARE * there / classes) - 2))
    short = int(counts.sum()) != there if int(counts.max()) < per_class else int(counts.sum()) > there
    if short or int(counts.max()) > per_class or int(counts.min()) < least:
        wanted = f"{per_class} of every class of the {there} in the part '{part}', or all that a class has"
        raise AuditError(f"{place} holds {counts.tolist()} images by class, not {wanted}")


def _check_count(place: str, labels: Tensor, attack: AttackResult, control: bool, classes: int) -> None:
    """Fewer images, of the classes that are easy only, would look like more leakage, or like less."""
    counts = torch.bincount(labels, minlength=classes)
    if len(labels) != attack.images or not (control or (counts == attack.images // classes).all()):
        raise AuditError(f"{place}: {attack.images} images in the record, {counts.tolist()} by class in its raw scores")


# Of raw scores of images; features and logits are what networks give.
KINDS = {"labels": torch.int64, "similarity": torch.float64}


def _observation(own: Mapping[str, Tensor], place: str, classes: int) -> Observation:
    """Raises AuditError where what a stranger calls raw scores of images are none."""
    _check(own, place, ("labels",), ("similarity", "features/", "logits/"))
    if own["labels"].dtype != torch.int64 or not ((own["labels"] >= 0) & (own["labels"] < classes)).all():
        raise AuditError(f"{place}: labels are not those of {classes} classes")
    for name, rows in own.items():
        if rows.ndim != (1 if name in ("labels", "similarity") else 2):
            raise AuditError(f"{place}: {name} has the shape {list(rows.shape)}")
        if rows.dtype != (kind := KINDS.get(name, torch.float32)):
            raise AuditError(f"{place}: {name} holds {rows.dtype}, not {kind}")
        if name.startswith("logits/") and rows.shape[1] != classes:
            raise AuditError(f"{place}: {name} are of {rows.shape[1]} classes, not of {classes}")
    return Observation.of(own)


def _check_seen(place: str, seen: Observation, widths: Mapping[str, int], evaluators: int) -> None:
    """By every network that the record says looked at it, and by no other."""
    found = {name: rows.shape[1] for name, rows in seen.features.items()}
    if found != widths or len(seen.logits) != evaluators:
        own, wanted = f"{found} and {len(seen.logits)}", f"{dict(widths)} and {evaluators}"
        raise AuditError(f"{place}: not the features and logits that its record's evaluators give, {wanted}, but {own}")


def _answers(own: Mapping[str, Tensor], place: str, record: Record) -> Answers:
    """Raises AuditError where what a stranger calls the answers of a membership inference are none, or where they are
    of another number of candidates than `Inquiry` asks about."""
    _check(own, place, ("members", "correct"), (SIGNAL,))
    for name, rows in own.items():
        if rows.ndim != 1 or not (rows.is_floating_point() if name.startswith(SIGNAL) else rows.dtype == torch.bool):
            raise AuditError(f"{place}: {name} holds {rows.dtype} of shape {list(rows.shape)}")
    counts, most = record.dataset.counts, int(record.settings_resolved["measure"]["membership_images"])
    asked = min(most, counts["test"], counts["teacher"])
    members = int(own["members"].sum())
    if (members, len(own["members"]) - members) != (asked, asked):
        others = len(own["members"]) - members
        raise AuditError(f"{place}: {members} members and {others} others among its candidates, not {asked} of each")
    return Answers.of(own)


def _contrast(own: Mapping[str, Tensor], place: str, attack: AttackResult, classes: int) -> Contrast:
    """Raises AuditError where what a stranger calls the answers under an evasion are none."""
    _check(own, place, ("labels", *CONTRASTS[:2]), (*CONTRASTS[2:], *ON_CHIP))
    labels = own["labels"]
    if labels.dtype != torch.int64 or not ((labels >= 0) & (labels < classes)).all() or len(labels) != attack.images:
        raise AuditError(f"{place}: labels are not those of {attack.images} images of {classes} classes")
    for name, rows in own.items():
        shape, kind = ((classes,), torch.float32) if name in (*CONTRASTS[:2], *ON_CHIP) else ((), torch.float64)
        if name != "labels" and (tuple(rows.shape[1:]) != shape or rows.dtype != kind):
            raise AuditError(f"{place}: {name[:80]} holds {rows.dtype} of shape {list(rows.shape)}")
    try:
        return Contrast.of(own)
    except ValueError as error:
        raise AuditError(f"{place}: {error}") from error


def _check(own: Mapping[str, Tensor], place: str, needed: tuple[str, ...], others: tuple[str, ...]) -> None:
    if missing := set(needed) - set(own):
        raise AuditError(f"{place}: there is no {min(missing)} among its raw scores")
    count = len(own[needed[0]]) if own[needed[0]].ndim else 0
    for name, rows in own.items():
        if not name.startswith((*needed, *others)):
            raise AuditError(f"{place}: there are no raw scores called {name[:80]!r}")
        if not count or not rows.ndim or len(rows) != count:
            raise AuditError(f"{place}: {name[:80]} has the shape {list(rows.shape)}, not one row for each of {count}")
        if rows.is_floating_point() and not torch.isfinite(rows).all():
            raise AuditError(f"{place}: {name[:80]} has values that are not finite")


def _unfit(place: str, attack: AttackResult, result: SeedResult, classes: int) -> str | None:
    """Why the evaluators could certify nothing, in the record's words; their accuracy says whether they could."""
    evaluators = [e.accuracy for e in (result.evaluator, result.second_evaluator) if e is not None]
    first = attack.measurements[0] if attack.measurements else None
    named = first is not None and first.status == "undefined" and UNFIT in (first.reason or "")
    if named != any(known.low is None or known.low <= 1 / classes for known in evaluators):
        raise AuditError(f"{place}: the evaluators' accuracy and what is measured with them do not agree")
    return first.reason if named and first is not None else None
