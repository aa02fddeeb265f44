"""What a record's options resolve to here and now, compared with what it says of itself."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.errors import AuditError, Unchecked
from audit.records import AttackResult, DefenseResult, NetworkInfo, Record, SeedResult
from leaderboards.entries import UNDEFENDED, changed_options

if TYPE_CHECKING:
    from audit.registry import Component
    from audit.settings import Settings
    from audit.spiking.network import SpikingNetwork

LARGEST_SIDE = 512
MOST_PARAMETERS = 2**30
NOTHING = "nothing"


def resolved_again(record: Record) -> str:
    """Raises AuditError where profile, suite and passed options do not give the settings that the record holds."""
    from audit.run import plain
    from audit.settings import GROUPS, Settings
    from audit.suites import PROFILES

    if record.profile not in PROFILES:
        raise AuditError(f"the profile '{record.profile}' is unknown here")
    options = Settings(PROFILES[record.profile].settings_for(record.dataset.name), record.settings_passed)
    if extra := set(record.settings_resolved) ^ set(GROUPS):
        raise AuditError(f"settings_resolved: {min(extra)} is not there, or should not be")
    for group in GROUPS:
        own, again = record.settings_resolved[group], plain(asdict(options.group(group)))
        if own != again:
            raise AuditError(f"{group}: the record says {_difference(own, again)}")
    count = _attacks(record, options)
    _defenses(record, options)
    _networks(record)
    changed = changed_options(record)
    note = f"; changed beside the defense: {', '.join(changed)}" if changed else ""
    return f"{count} attacks ran as profile '{record.profile}' and suite resolve here{note}"


def _attacks(record: Record, options: "Settings") -> int:
    """How many attacks of suites have the settings that these resolve to, and are what their code here says."""
    from audit.registry import ATTACKS
    from audit.run import plain
    from audit.suites import SUITES

    count = 0
    for entry in {entry.label: entry for name in record.suites for entry in SUITES[name].entries}.values():
        component = replace(ATTACKS.get(entry.attack), variant=entry.variant, presets=entry.settings)
        again = plain(asdict(options.build(component)))
        for where, attack in _of_label(record, entry.label):
            if attack.settings != again:
                raise AuditError(f"{where}: the record says {_difference(attack.settings, again)}")
            if (attack.evidence, attack.access) != (component.evidence, component.access.value):
                raise AuditError(f"{where}: it brings '{component.evidence}' back, and is handed '{component.access}'")
            count += 1
    return count


def _of_label(record: Record, label: str) -> Iterator[tuple[str, AttackResult]]:
    for result in record.results:
        for defense in result.defenses:
            for attack in (*defense.attacks, *defense.untrained):
                if attack.attack == label:
                    yield f"seed {result.seed}, {label} on {defense.defense}", attack


def _defenses(record: Record, options: "Settings") -> None:
    """Raises AuditError where a defense that is known here is not what the record says of it, or an option is none."""
    from audit.registry import ATTACKS, DEFENSES
    from audit.run import plain

    names = {defense.defense for result in record.results for defense in result.defenses}
    labels = {a.attack.partition(" (")[0] for r in record.results for d in r.defenses for a in d.attacks}
    unknown = names - set(DEFENSES.names())
    known = {name: DEFENSES.get(name) for name in names - unknown}
    groups = {*unknown, *(labels - set(ATTACKS.names()))}
    groups |= {"defense"} if unknown else set()
    groups |= {"attack"} if labels - set(ATTACKS.names()) else set()
    passed = {k: v for k, v in options.passed.items() if k.partition(".")[0] not in groups}
    if odd := [key for key in passed if key.count(".") != 1]:
        raise AuditError(f"settings_passed: {odd[0][:80]!r} is no setting")
    components: list[Component[Any]] = [
        *known.values(),
        *(ATTACKS.get(name) for name in sorted(labels & set(ATTACKS.names()))),
    ]
    replace(options, passed=passed).check(components)
    for result in record.results:
        for defense in result.defenses:
            if (component := known.get(defense.defense)) is None:
                continue
            where = f"seed {result.seed}, {defense.defense}"
            again = plain(asdict(options.build(component)))
            if defense.settings != again:
                raise AuditError(f"{where}: the record says {_difference(defense.settings, again)}")
            own = (defense.origin, defense.summary, defense.data_access)
            here = (component.origin, component.summary, component.factory.data_access.value)
            if own != here:
                raise AuditError(f"{where}: the record says {own} where it is {here} here")


def as_set(network: "SpikingNetwork", result: DefenseResult) -> None:
    """Raises AuditError where a conversion that is known here codes or fires otherwise than its settings say.

    The hash of a target is over its weights: two networks of one hash can still differ in this.
    """
    from audit.registry import DEFENSES
    from audit.spiking.encoding import Encoder
    from audit.spiking.settings import Conversion
    from audit.spiking.surrogate import Surrogate

    if result.defense not in DEFENSES.names() or not issubclass(DEFENSES.get(result.defense).factory, Conversion):
        return
    said = result.settings
    shape = (said[f"surrogate{field}"] for field in ("", "_width", "_gain", "_per_threshold"))
    fires = (said["leak"], said["reset"], Surrogate(*shape))
    if network.encoder != Encoder(said["coding"], said["phases"], said["zero_spikes"]):
        raise AuditError(f"the target of {result.defense} codes an image otherwise than its settings say")
    if any((neuron.leak, neuron.reset, neuron.surrogate) != fires for neuron in network.neurons.values()):
        raise AuditError(f"the neurons of {result.defense} are others than its settings say")


def _networks(record: Record) -> None:
    """Raises AuditError where teacher or evaluators are not of the size and the recipe that the settings name."""
    from audit.pipeline import SECOND_WIDTH

    teacher, evaluator = record.settings_resolved["teacher"], record.settings_resolved["evaluator"]
    model = record.results[0].teacher.architecture
    other = {**evaluator, "model": evaluator["model"] or model}
    recipes = {
        "teacher": {**teacher, "model": model},
        "evaluator": other,
        "second_evaluator": {**other, "width": other["width"] * SECOND_WIDTH},
    }
    for role, recipe in recipes.items():
        for result in record.results:
            own: NetworkInfo | None = getattr(result, role)
            if own is None:
                continue
            where = f"seed {result.seed}: the {role.replace('_', ' ')}"
            if own.settings != recipe:
                raise AuditError(f"{where}: the record says {_difference(own.settings, recipe)}")
            if own.architecture != recipe["model"]:
                raise AuditError(f"{where} is a {recipe['model']} by its settings, not '{own.architecture[:80]}'")
            parameters, operations = _size(recipe, record)
            if (own.parameters, own.multiply_accumulates) != (parameters, round(sum(operations.values()))):
                raise AuditError(f"{where}: {own.parameters:,} parameters where {recipe['model']} has {parameters:,}")
            if role == "teacher":
                _same_layers(result, operations)


def _same_layers(result: SeedResult, operations: Mapping[str, float]) -> None:
    """Raises AuditError where the undefended conversion has other layers than the teacher."""
    for defense in result.defenses:
        if defense.defense == UNDEFENDED and defense.energy is not None:
            own = {layer.name: layer.ann_multiply_accumulates for layer in defense.energy.layers}
            if own != operations:
                raise AuditError(f"seed {result.seed}: the layers of {UNDEFENDED} are not those of the teacher")


def _size(recipe: Mapping[str, Any], record: Record) -> tuple[int, dict[str, float]]:
    """Parameters, and multiply-accumulates by layer, of a network that is not allocated."""
    import torch

    from audit.networks.folding import fold_batch_norms
    from audit.networks.operations import multiply_accumulates
    from audit.networks.vgg import NETWORKS, vgg

    shape, classes = record.dataset.image_shape, len(record.dataset.classes)
    if recipe["model"] not in NETWORKS or not all(0 < side <= LARGEST_SIDE for side in shape):
        raise AuditError(f"'{recipe['model']}' for images of {shape} is no network that is known here")
    try:
        with torch.device("meta"):
            made = vgg(recipe["model"], shape, classes, width=recipe["width"], hidden=recipe["hidden"])
            network = fold_batch_norms(made)
        parameters = sum(parameter.numel() for parameter in network.parameters())
    except (RuntimeError, OverflowError, ValueError) as error:
        raise AuditError(f"a network of width {recipe['width']:g} cannot be made") from error
    if parameters > MOST_PARAMETERS:
        raise AuditError(f"a network of {parameters:,} parameters is larger than is checked here")
    return parameters, multiply_accumulates(network, shape)


def data_split(record: Record, data_root: Path | None) -> str:
    """Raises AuditError where images or split are others than here; `Unchecked` where the data set is not here."""
    from audit.controls import image_controls
    from audit.pipeline import prepare_data
    from audit.recompute import images_per_class
    from audit.settings import DataSettings, validated
    from audit.store import hash_tensors

    info = record.dataset
    if max(info.image_shape) > LARGEST_SIDE:
        raise AuditError(f"images of {info.image_shape} are larger than is checked here")
    if info.name == "folder":
        raise Unchecked("the submitter's own images: nobody else has them")
    settings: DataSettings = validated(DataSettings, record.settings_resolved["data"], "data")
    if settings.image_size is not None and settings.image_size > LARGEST_SIDE:
        raise AuditError(f"data.image_size = {settings.image_size} is larger than is checked here")
    try:
        data = prepare_data(info.name, data_root, settings)
    except AuditError:
        data_is_here(info.name, data_root)
        raise
    for what, own, here in (
        ("split", info.split_hash, data.split_hash),
        ("classes", info.classes, data.task.classes),
        ("image shape", info.image_shape, data.task.image_shape),
        ("counts", info.counts, data.parts.counts()),
    ):
        if own != here:
            raise AuditError(f"the {what} of {info.name} here is {here}, the record says {own}")
    for result in record.results:
        per_class = images_per_class(record, result)
        made = image_controls(data.task, data.parts.test, per_class, result.seed)
        hashes = {name: hash_tensors({"images": images, "labels": labels}) for name, (images, labels) in made.items()}
        for control in result.controls:
            if hashes.get(control.attack) != control.images_hash:
                raise AuditError(f"seed {result.seed}: {control.attack} are other images than here")
    return f"{info.name}, split {data.split_hash[:12]} and controls, the same here"


def data_is_here(name: str, data_root: Path | None) -> None:
    """Raises `Unchecked`, with the reason, where the data set itself cannot be read as it would be for an audit."""
    from audit.data import load

    try:
        load(name, data_root)
    except AuditError as error:
        raise Unchecked(str(error)) from error


def _difference(own: Any, again: Any) -> str:
    if not isinstance(own, dict) or not isinstance(again, dict):
        return f"{own!r} where it is {again!r} here"
    key = next(key for key in {**again, **own} if own.get(key, NOTHING) != again.get(key, NOTHING))
    return f"{key} = {own.get(key, NOTHING)!r} where it is {again.get(key, NOTHING)!r} here"
