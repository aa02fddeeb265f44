"""The audit as a function: of a registered defense, of one that is not, or of a network that is there already."""

import copy
import inspect
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from audit.contracts import Attack, DataAccess, Defense, DefenseContext, Images, Task
from audit.errors import AuditError
from audit.monitor import SilentMonitor
from audit.pipeline import prepare_data
from audit.records import Record
from audit.registry import ATTACKS, DEFENSES, Component, Registry, unknown
from audit.run import resolve, run
from audit.settings import Settings
from audit.spiking.files import describe, weights
from audit.spiking.live import Live
from audit.store import Store, digest, hash_tensors
from audit.suites import PROFILES

OWN = "own-network"


def audit(
    defense: str | Defense | nn.Module | Mapping[int, nn.Module],
    attacks: str | Attack | Sequence[Attack] = "all",
    dataset: str | None = None,
    *,
    model: str | None = None,
    profile: str = "smoke",
    seeds: Sequence[int] = (0,),
    settings: Mapping[str, object] | None = None,
    data_root: Path | None = None,
    device: str = "auto",
    store: Path | None = None,
    out: Path | str | None = None,
) -> Record:
    """What ``python -m audit`` does, and the record of it.

    ``defense``: a name, the path of a file, an instance of a defense's dataclass that nobody registered, or the network
    itself, which maps images [N, C, H, W] in [-1, 1] to logits [N, K]: any module, or one per seed. A `SpikingNetwork`
    goes through every attack; what needs spikes does not apply to another module, and modules that keep a state have to
    reset it in ``forward``. ``attacks``: as for ``--attack``, or instances. ``settings``: 'group.field' -> value.
    ``out``: also write the run's folder, with report and tables.

    Raises AuditError for bad input, in one line.
    """
    from audit.cli import default_store
    from audit.output import claim, write_run

    passed = {key: _text(value) for key, value in (settings or {}).items()}
    chosen = _defense(defense, tuple(seeds), passed)
    request = resolve(
        chosen,
        _attacks(attacks, passed),
        dataset,
        model,
        profile,
        seeds,
        data_root,
        device,
        passed,
        command="audit.audit(...)",
    )
    folder = Path(out) if out is not None else None
    if folder is not None:
        claim(folder)
    kept = Store(store or default_store())
    kept.claim()
    finished = run(request, kept, SilentMonitor())
    if folder is not None:
        write_run(finished, folder)
    return finished.record


def teacher_images(
    dataset: str, data_root: Path | None = None, profile: str = "smoke", settings: Mapping[str, object] | None = None
) -> tuple[Task, Images]:
    """The private part of a data set, as an audit with this profile and these settings splits it.

    A network of one's own should be trained on these images alone: the rest is the auditor's.
    """
    passed = {key: _text(value) for key, value in (settings or {}).items()}
    if profile not in PROFILES:
        raise unknown("profile", profile, PROFILES, "python -m audit list")
    options = Settings(PROFILES[profile].settings_for(dataset), passed)
    data = prepare_data(dataset, data_root, options.group("data"))
    return data.task, data.parts.teacher


def _defense(given: Any, seeds: tuple[int, ...], passed: dict[str, str]) -> str | list[Component[Defense]]:
    if isinstance(given, str):
        return given
    if isinstance(given, nn.Module):
        return [own_network(dict.fromkeys(seeds, given))]
    if isinstance(given, Mapping):
        if missing := set(seeds) - set(given):
            raise AuditError(f"there is no network for seed {min(missing)}")
        return [own_network(given)]
    return [_component(DEFENSES, given, passed)]


def _attacks(given: str | Attack | Sequence[Attack], passed: dict[str, str]) -> str | list[Component[Attack]]:
    if isinstance(given, str):
        return given
    several = given if isinstance(given, Sequence) else [given]
    return [_component(ATTACKS, each, passed) for each in several]


def _component(registry: Registry[Any], given: Any, passed: dict[str, str]) -> Component[Any]:
    """An instance of a component's dataclass. Fields that are not at their default are passed as settings; for the
    others the profile's value holds, as everywhere."""
    if not is_dataclass(given) or isinstance(given, type):
        raise AuditError(f"{given!r} is neither a name nor an instance of a {registry.kind}'s dataclass")
    factory = type(given)
    known = next((c for c in (registry.get(n) for n in registry.names()) if c.factory is factory), None)
    component = known or registry.component(_name(factory.__name__), factory)
    for field in fields(given):
        value = getattr(given, field.name)
        if value != field.default:
            passed.setdefault(f"{component.name}.{field.name}", _text(value))
    return component


def own_network(networks: Mapping[int, nn.Module]) -> Component[Defense]:
    """A component whose targets are copies of these networks, by seed."""
    targets = {seed: _target(network) for seed, network in networks.items()}

    @dataclass(frozen=True)
    class OwnNetwork:
        """A network that was there already, audited as it is."""

        data_access: ClassVar[DataAccess] = DataAccess.UNKNOWN
        in_all: ClassVar[bool] = False
        repeatable: ClassVar[bool] = False

        def protect(self, teacher: nn.Sequential, context: DefenseContext) -> nn.Module:
            return copy.deepcopy(targets[context.seed]).to(context.device)

        def fingerprint(self, task: Task, seed: int) -> str:
            return digest([describe(targets[seed]), hash_tensors(weights(targets[seed]))])

    return Component("defense", OWN, OwnNetwork, "the caller", Path(inspect.getfile(own_network)))


def _target(network: nn.Module) -> nn.Module:
    """A copy that every stage can build again: as layers that have a description, or else as it is."""
    network = copy.deepcopy(network).eval()
    try:
        describe(network)
    except ValueError:
        # What forward does cannot be hashed: no stage of such a module is taken for that of another, or of an earlier.
        return Live(network, secrets.token_hex(16))
    return network


def _text(value: object) -> str:
    """A setting as --set takes it."""
    if value is None:
        return "none"
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _name(text: str) -> str:
    """'MyDefense' -> 'my-defense'."""
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in text).strip("-_").replace("_", "-")
