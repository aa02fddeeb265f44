"""How a run's set-up differs from the published one: computed from the record, a footnote of every layout."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from audit.records import DefenseResult, NetworkInfo, Record
from leaderboards.lookups import SYNTHETIC_IMAGES, TRAINING_LOSS
from leaderboards.paper.published import Published, Setup

TIME_STEPS = "time_steps"
# Of the encryption training: the field of the defense and of the published set-up.
TRAINING = {
    "epochs": "epochs of encryption training",
    "learning_rate": "learning rate of encryption training",
    "distillation": "distillation weight m",
    "temperature": "distillation temperature",
}
# Defenses that are not distilled have these fields as well, and no use for them.
OF_DISTILLATION = ("distillation", "temperature")


def differences(points: Sequence[Record], paper: Published, published_on: str, swept: str = "") -> tuple[str, ...]:
    """Remarks: what is other than in the paper, what is the same, and what the paper has nothing to set beside.

    ``points``: one run, or those of a sweep over the field ``swept``, which is not compared. ``published_on``: our name
    of the data set that the published values are of.
    """
    first = points[0]
    others: list[str] = []
    same: list[str] = []
    for what, here, there in _compared(points, paper.setups[published_on], first.dataset.name == published_on, swept):
        if here == there:
            same.append(f"{what} {here}")
        else:
            others.append(f"{what} {here} (paper: {there})")
    remarks = [f"Set-up, other than in the paper ({paper.authors}): {'; '.join(others) or 'nothing that is compared'}."]
    if same:
        remarks.append(f"Set-up, as in the paper: {'; '.join(same)}.")
    return (*remarks, f"Set-up, without a counterpart in the paper: {'; '.join(_without_counterpart(first))}.")


def moved(points: Sequence[Record], swept: str) -> tuple[str, ...]:
    """Remarks on what differs between the points of a sweep beside the field ``swept``."""
    found = []
    for name in dict.fromkeys(d.defense for point in points for d in point.results[0].defenses):
        settings = [d.settings for point in points for d in point.results[0].defenses if d.defense == name]
        fields = dict.fromkeys(field for own in settings for field in own if field != swept)
        found += [f"{name}.{f}" for f in fields if any(own.get(f) != settings[0].get(f) for own in settings)]
    teachers = {tuple((r.seed, r.teacher.hash) for r in point.results) for point in points}
    found += ["the teachers"] if len(teachers) > 1 else []
    return (f"The points differ in more than {swept}: {', '.join(found)}.",) if found else ()


def _compared(points: Sequence[Record], setup: Setup, same_data: bool, swept: str) -> Iterator[tuple[str, str, str]]:
    """(what, here, in the paper)."""
    record = points[0]
    targets = [d for point in points for result in point.results for d in result.defenses]
    yield "data set", setup.name if same_data else record.dataset.name, setup.name
    yield "network", _network(record.results[0].teacher), setup.network
    if swept != TIME_STEPS:
        yield "T", _by_target(targets, lambda d: d.time_steps), _shown(setup.time_steps)
    if swept != SYNTHETIC_IMAGES:
        made = _by_target(targets, lambda d: d.notes.get(SYNTHETIC_IMAGES))
        yield "synthetic samples", made, _shown(setup.synthetic_images)
    trained = [d for d in targets if TRAINING_LOSS in d.notes]
    for field, what in TRAINING.items():
        own = [d for d in trained if field not in OF_DISTILLATION or d.settings.get("distillation")]
        if field != swept and any(field in d.settings for d in own):
            yield what, _by_target(own, partial(_setting, field)), _shown(getattr(setup, field))
    counts = record.dataset.counts
    yield "training images of the teacher", _shown(counts.get("teacher", 0)), _shown(setup.training_images)
    yield "test images", _shown(counts.get("test", 0)), _shown(setup.test_images)


def _without_counterpart(record: Record) -> Iterator[str]:
    result = record.results[0]
    images = _shown(record.dataset.counts.get("evaluator", 0))
    yield f"an evaluator ({_network(result.evaluator)}, trained on {images} images that the teacher never met)"
    seeds = ", ".join(str(result.seed) for result in record.results)
    yield f"{len(record.results)} seed{'s' if len(record.results) > 1 else ''} ({seeds})"
    yield (
        f"the split {record.dataset.split_hash[:12]}, a hash of pixels and labels: a copy of the same images that was "
        "compressed anew has another"
    )


def _network(network: NetworkInfo) -> str:
    """'VGG16', or 'VGG9 of width 0.25'."""
    name = network.architecture.upper() if network.architecture.startswith("vgg") else network.architecture
    width = network.settings.get("width")
    return f"{name} of width {width:g}" if isinstance(width, int | float) and width != 1 else name


def _setting(field: str, target: DefenseResult) -> object:
    return target.settings.get(field)


def _by_target(targets: Sequence[DefenseResult], read: Callable[[DefenseResult], object]) -> str:
    """One value where all targets that have one agree; else every value with its targets."""
    found: dict[str, dict[str, None]] = {}
    for target in targets:
        if (value := read(target)) is not None:
            found.setdefault(_shown(value), {})[target.defense] = None
    if len(found) < 2:
        return next(iter(found), "none")
    return ", ".join(f"{value} ({', '.join(names)})" for value, names in found.items())


def _shown(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)
