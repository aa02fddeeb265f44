"""The audit as a function: of a registered defense, of one that is not, or of a network that is there already."""

import inspect
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from audit.contracts import Attack, Defense, Images, Task
from audit.data import DATASETS
from audit.errors import AuditError
from audit.monitor import SilentMonitor, monitor_for
from audit.own_network import OwnNetworks
from audit.pipeline import prepare_data
from audit.records import Record
from audit.registry import ATTACKS, DEFENSES, Component, Registry, unknown
from audit.remote_store import is_url, open_store
from audit.request import NO_ATTACK, SEED_LIMIT, chosen_attacks, resolve
from audit.run import run
from audit.settings import GROUPS, Settings
from audit.suites import PROFILES

AnyDefense = str | Path | Defense | type[Defense] | nn.Module | Mapping[int, nn.Module]
AnyAttack = str | Path | Attack | type[Attack]
LONGEST = 80


# Whoever calls may be evaluating something: training and attacks need gradients all the same.
@torch.inference_mode(False)
@torch.enable_grad()
def audit(
    defense: AnyDefense,
    attacks: AnyAttack | Sequence[AnyAttack] = "all",
    dataset: str | None = None,
    *,
    model: str | None = None,
    profile: str = "smoke",
    seeds: int | Iterable[int] | None = None,
    settings: Mapping[str, object] | None = None,
    data_root: Path | str | None = None,
    device: str | torch.device = "auto",
    store: Path | str | None = None,
    out: Path | str | None = None,
    progress: bool = True,
) -> Record:
    """What ``python -m audit`` does, and the record of it.

    ``defense``, one of

    - a name, or the path of a file that registers one, as for ``--defense``;
    - a defense's dataclass, registered or not: the profile and ``settings`` hold for its fields, as for a name;
    - an instance of one: all its fields are as they are, also those at their default, whatever the profile says, and
      the record holds them as passed. Baselines keep the profile's values: settings['defense.x'] reaches them;
    - a network, images float [N, C, H, W] in the data's input range, [-1, 1] by default -> logits float [N, K]: any
      module, or one per seed. A `SpikingNetwork` goes through every attack. What needs spikes does not apply to another
      module; one that keeps a state has to reset it in ``forward``; and unless it is an nn.Sequential of the layers
      that `audit.spiking.files` describes, no other process can build it, so that its run cannot be submitted.

    ``attacks``: as for ``--attack``, a dataclass, an instance, or several of these; 'none' measures accuracy and energy
    only. ``seeds``: each 0 to 2**32 - 1; by default 0, or those that networks are given for. ``settings``:
    'group.field' -> number, text, path, truth value, None, or several of them. ``store``: as for ``--store``.
    ``out``: also write the run's folder, with report and tables. ``progress``: say on stderr what is being done.

    Raises AuditError for bad input, in one line; for a network that cannot be audited, before anything is trained.
    """
    from audit.output import claim, write_run

    folder, root = _path("out", out), _path("data_root", data_root)
    kept = open_store(store if isinstance(store, str) and is_url(store) else _path("store", store))
    passed = _settings(settings)
    numbers = _seeds(seeds, defense)
    networks = _networks(defense, numbers)
    chosen, values = ([networks.component()], {}) if networks else _defense(defense)
    attackers, more = _attacks(attacks)
    if twice := passed.keys() & (values | more).keys():
        raise AuditError(f"settings: '{min(twice)}' is a field of the instance; give its value in one place")
    request = resolve(
        chosen,
        attackers,
        _word("dataset", dataset),
        _word("model", model),
        _word("profile", profile) or "",
        numbers,
        root,
        _word("device", str(device) if isinstance(device, torch.device) else device) or "",
        passed | values | more,
        command="audit.audit(...)",
    )
    if folder is not None:
        claim(folder)
    kept.claim()
    with monitor_for(Console(stderr=True)) if progress else nullcontext(SilentMonitor()) as monitor:
        finished = run(request, kept, monitor)
    if folder is not None:
        write_run(finished, folder)
    return finished.record


def teacher_images(
    dataset: str,
    data_root: Path | str | None = None,
    profile: str = "smoke",
    settings: Mapping[str, object] | None = None,
) -> tuple[Task, Images]:
    """The private part of a data set, as an audit with this profile and these settings splits it.

    A network of one's own should be trained on these images alone: the rest is the auditor's. Of ``settings``, those of
    'data' matter here. Raises AuditError for bad input, in one line.
    """
    for what, name, known in (("dataset", dataset, DATASETS), ("profile", profile, PROFILES)):
        if _word(what, name) not in known:
            raise unknown(what, str(name), known, "python -m audit list")
    own = {key: text for key, text in _settings(settings).items() if key.partition(".")[0] in GROUPS}
    options = Settings(PROFILES[profile].settings_for(dataset), own)
    options.check(())
    data = prepare_data(dataset, _path("data_root", data_root), options.group("data"))
    return data.task, data.parts.teacher


def _seeds(given: Any, defense: Any) -> tuple[int, ...]:
    if given is None and isinstance(defense, Mapping) and defense:
        return tuple(_whole("networks are given by seed", seed) for seed in defense)
    if given is None:
        return (0,)
    several = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else given
    try:
        return tuple(_whole("seeds", seed) for seed in several)
    except TypeError as error:  # a tensor without dimensions, for one
        raise AuditError(f"seeds: {_shown(given)} is not one seed, nor several") from error


def _whole(what: str, given: Any) -> int:
    if isinstance(given, bool) or not hasattr(given, "__index__"):
        raise AuditError(f"{what}: {_shown(given)} is not a whole number from 0 to {SEED_LIMIT - 1}")
    return operator.index(given)


def _networks(given: Any, seeds: tuple[int, ...]) -> OwnNetworks | None:
    """None where ``given`` is no network, nor networks by seed."""
    if isinstance(given, nn.Module):
        given = dict.fromkeys(seeds, given)
    if not isinstance(given, Mapping):
        return None
    if missing := set(seeds) - set(given):
        raise AuditError(f"there is no network for seed {min(missing)}")
    return OwnNetworks.of({seed: given[seed] for seed in seeds})


def _defense(given: Any) -> tuple[list[Component[Defense]], dict[str, str]]:
    """What was asked for, and the settings that an instance passes."""
    if isinstance(given, str | Path):
        return DEFENSES.select(str(given)), {}
    component, values = _component(DEFENSES, given)
    return [component], values


def _attacks(given: Any) -> tuple[list[Component[Attack]], dict[str, str]]:
    """Likewise; by name or suite an attack may come several times, as for ``--attack``, and counts once."""
    if isinstance(given, str) and given == NO_ATTACK:
        return [], {}
    several = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    named: list[Component[Attack]] = []
    chosen: dict[str, Component[Attack]] = {}
    values: dict[str, str] = {}
    own: list[str] = []
    for each in several:
        if isinstance(each, str | Path):
            found = chosen_attacks(str(each))
            named += found
        else:
            component, fixed = _component(ATTACKS, each)
            found = [component]
            own.append(component.name)
            values |= fixed
        for component in found:
            chosen.setdefault(component.label, component)
    if not chosen:
        raise AuditError(
            "attacks: none is named; 'none' runs none, 'all' the suites that are current (python -m audit list)"
        )
    names = own + list({component.name for component in named})
    if twice := [name for name in own if names.count(name) > 1]:
        raise AuditError(f"attack '{twice[0]}' is given twice: an instance or a class of it has to be the only one")
    return list(chosen.values()), values


def _component(registry: Registry[Any], given: Any) -> tuple[Component[Any], dict[str, str]]:
    """A component's dataclass, or an instance of one with all its fields as settings."""
    factory = given if isinstance(given, type) else type(given)
    if not is_dataclass(factory):
        networks = ", nor a network (torch.nn.Module)" if registry is DEFENSES else ""
        kinds = {"defense": "a defense's", "attack": "an attack's"}
        shown = f"the class {given.__name__}" if isinstance(given, type) else f"{_shown(given)}"
        raise AuditError(f"{shown} is neither a name nor {kinds[registry.kind]} dataclass or an instance{networks}")
    component = next((c for c in (registry.get(n) for n in registry.names()) if c.factory is factory), None)
    if component is None:
        component = _unregistered(registry, factory)
    if isinstance(given, type):
        return component, {}
    keys = {f"{component.name}.{field.name}": field.name for field in fields(given) if field.init}
    return component, {key: _text(key, getattr(given, name)) for key, name in keys.items()}


def _unregistered(registry: Registry[Any], factory: type) -> Component[Any]:
    name = _name(factory.__name__)
    try:
        for base in factory.__mro__[:-1]:
            inspect.getfile(base)
    except (OSError, TypeError) as error:
        raise AuditError(
            f"the class {factory.__name__} is in no file: save it in one, a stage's key holds its source"
        ) from error
    component = registry.component(name, factory)
    if name in registry.names():
        origin = registry.get(name).origin
        raise AuditError(f"two {registry.kind}s are named '{name}': {origin} and {component.origin}; rename the class")
    return component


def _settings(given: Any) -> dict[str, str]:
    """As parse_options gives them."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise AuditError(f"settings: a mapping 'group.field' -> value, not a {type(given).__name__}")
    for key in given:
        if not isinstance(key, str) or key.count(".") != 1 or not all(key.split(".")):
            raise AuditError(f"settings: {_shown(key)} is not 'group.field', as 'defense.time_steps' is")
    return {key: _text(key, value) for key, value in given.items()}


def _text(key: str, value: Any, several: bool = True) -> str:
    """A setting as --set takes it."""
    plain = value.item() if isinstance(value, np.generic) else value.value if isinstance(value, Enum) else value
    if plain is None:
        return "none"
    if isinstance(plain, bool | int | float | Path) or (isinstance(plain, str) and (several or "," not in plain)):
        return str(plain)
    if isinstance(plain, tuple | list) and several and plain:
        return ",".join(_text(key, part, several=False) for part in plain)
    raise AuditError(
        f"{key} = {_shown(value)}: a setting is a number, text, path, truth value, None, or several of them"
    )


def _path(what: str, given: Any) -> Path | None:
    if given is None:
        return None
    if not isinstance(given, str | Path) or not str(given):
        raise AuditError(f"{what}: {_shown(given)} is no path")
    try:
        return Path(given).expanduser()
    except RuntimeError as error:
        raise AuditError(f"{what}: {given}: {error}") from error


def _word(what: str, given: Any) -> str | None:
    if given is not None and not isinstance(given, str):
        raise AuditError(f"{what}: {_shown(given)} is no name (python -m audit list)")
    return given


def _name(text: str) -> str:
    """'MyDefense' -> 'my-defense', 'PrivateSNN' -> 'private-snn'."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", text)
    return words.lower().replace("_", "-").strip("-")


def _shown(value: object) -> str:
    """What was given, on one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
