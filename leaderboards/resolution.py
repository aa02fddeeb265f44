"""What a record's options resolve to here and now, compared with what it says of itself."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from audit.errors import AuditError, Unchecked
from audit.records import Record
from leaderboards.entries import changed_options

LARGEST_SIDE = 512


def resolved_again(record: Record) -> str:
    """Raises AuditError where profile, suite and passed options do not give the settings that the record holds."""
    from audit.registry import ATTACKS
    from audit.run import plain
    from audit.settings import GROUPS, Settings
    from audit.suites import PROFILES, SUITES

    if record.profile not in PROFILES:
        raise AuditError(f"the profile '{record.profile}' is unknown here")
    options = Settings(PROFILES[record.profile].settings_for(record.dataset.name), record.settings_passed)
    for group in GROUPS:
        own, again = record.settings_resolved.get(group), plain(asdict(options.group(group)))
        if own != again:
            raise AuditError(f"{group}: the record says {_difference(own, again)}")
    count = 0
    for entry in {entry.label: entry for name in record.suites for entry in SUITES[name].entries}.values():
        component = replace(ATTACKS.get(entry.attack), variant=entry.variant, presets=entry.settings)
        again = plain(asdict(options.build(component)))
        for result in record.results:
            for defense in result.defenses:
                for attack in (*defense.attacks, *defense.untrained):
                    if attack.attack == entry.label and attack.settings != again:
                        where = f"seed {result.seed}, {entry.label} on {defense.defense}"
                        raise AuditError(f"{where}: the record says {_difference(attack.settings, again)}")
                    count += attack.attack == entry.label
    changed = changed_options(record)
    note = f"; changed beside the defense: {', '.join(changed)}" if changed else ""
    return f"{count} attacks ran as profile '{record.profile}' and suite resolve here{note}"


def data_split(record: Record, data_root: Path | None) -> str:
    """Raises AuditError where images or split are others than here; `Unchecked` where the data set is not here."""
    from audit.pipeline import prepare_data
    from audit.settings import DataSettings, validated

    info = record.dataset
    if max(info.image_shape) > LARGEST_SIDE:
        raise AuditError(f"images of {info.image_shape} are larger than is checked here")
    if info.name == "folder":
        raise Unchecked("the submitter's own images: nobody else has them")
    if data_root is None and info.name != "digits":
        raise Unchecked(f"{info.name} is not here; pass --data-root")
    settings: DataSettings = validated(DataSettings, record.settings_resolved["data"], "data")
    if settings.image_size is not None and settings.image_size > LARGEST_SIDE:
        raise AuditError(f"data.image_size = {settings.image_size} is larger than is checked here")
    data = prepare_data(info.name, data_root, settings)
    for what, own, here in (
        ("split", info.split_hash, data.split_hash),
        ("classes", info.classes, data.task.classes),
        ("image shape", info.image_shape, data.task.image_shape),
        ("counts", info.counts, data.parts.counts()),
    ):
        if own != here:
            raise AuditError(f"the {what} of {info.name} here is {here}, the record says {own}")
    return f"{info.name}, split {data.split_hash[:12]}, the same here"


def _difference(own: Any, again: Any) -> str:
    if not isinstance(own, dict) or not isinstance(again, dict):
        return f"{own!r} where it is {again!r} here"
    keys = [key for key in {**again, **own} if own.get(key) != again.get(key)]
    key = keys[0]
    return f"{key} = {own.get(key)!r} where it is {again.get(key)!r} here"
