"""From a profile and --set options to checked settings for every part of a run."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_origin, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from audit.errors import AuditError
from audit.named_files import NoFile, may_be_a_path
from audit.networks.training import TrainingRecipe
from audit.registry import ATTACKS, DEFENSES, Component, unknown

T = TypeVar("T")
Count = Annotated[int, Field(ge=1)]
KINDS = ("defense", "attack")
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?(e[+-]?[0-9]+)?")
WORD = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class DataSettings:
    """``normalisation``: pixels become [-1, 1] ('signed', mean and deviation 0.5) or [0, 1] ('unit').

    ``train_images`` is what teacher and evaluator share: ``evaluator_fraction`` of it goes to the evaluator.
    None takes every image there is. ``mirror``: whether a mirror image is a natural one, so that training may use it;
    None: true of the known data sets of photographs, false of digits and of folders.
    """

    image_size: Count | None = None
    train_images: Count | None = None
    test_images: Count | None = None
    evaluator_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    split_seed: Annotated[int, Field(ge=0)] = 0
    normalisation: Literal["signed", "unit"] = "signed"
    mirror: bool | None = None


@dataclass(frozen=True)
class EvaluatorRecipe(TrainingRecipe):
    """``model`` None: the teacher's family. ``hidden`` is the dimension of the features that images are compared in."""

    model: Annotated[str, NoFile()] | None = None


@dataclass(frozen=True)
class MeasureSettings:
    """``curve_points``: how many numbers of time-steps up to T the accuracy is read at.

    ``reference_images``: how many private training images reconstructions are compared with; ``membership_images``: how
    many members, and how many others, a membership inference is asked about, as far as there are test images.
    ``attack_seconds``: wall time after which an attack is stopped at its next step and recorded as timed out.
    ``inception_weights``: the published FID weights, if you have them; then FID is measured as well.
    """

    batch_size: Count = 100
    curve_points: Count = 8
    reference_images: Count = 2000
    membership_images: Count = 1000
    attack_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    inception_weights: Path | None = None


GROUPS: Mapping[str, type] = {
    "data": DataSettings,
    "teacher": TrainingRecipe,
    "evaluator": EvaluatorRecipe,
    "measure": MeasureSettings,
}


def all_settings() -> dict[str, str]:
    """'group.field' -> its default, for every group and every registered component; profiles override many of them."""
    owners: dict[str, type] = dict(GROUPS)
    for registry in (DEFENSES, ATTACKS):
        owners |= {name: registry.get(name).factory for name in registry.names()}
    return {f"{owner}.{field.name}": str(field.default) for owner, cls in owners.items() for field in fields(cls)}


def may_name_a_file(key: str, value: str) -> bool:
    """Whether the option ``key`` can be a path: in a group of settings, or in any registered component that it reaches.

    What is not registered says nothing of its types: of what may reach it, only numbers and words are no path.
    """
    group, _, name = key.partition(".")
    classes: list[type] = [GROUPS[group]] if group in GROUPS else []
    for registry in (DEFENSES, ATTACKS):
        classes += [registry.get(known).factory for known in registry.names() if group in (known, registry.kind)]
    types = [hints[name] for cls in classes if name in (hints := get_type_hints(cls, include_extras=True))]
    if any(may_be_a_path(kind, value) for kind in types):
        return True
    return (not types or group in KINDS) and not _is_plain(value)


def _is_plain(value: str) -> bool:
    """Whether every part between commas is a number, or a word that names nothing in this folder."""
    return all(
        NUMBER.fullmatch(part) or (WORD.fullmatch(part) and not Path(part).exists()) for part in value.split(",")
    )


def parse_options(options: Iterable[str]) -> dict[str, str]:
    """'group.field=value' texts -> mapping. Raises AuditError for another form and for a field set twice."""
    passed: dict[str, str] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or key.count(".") != 1 or not all(key.split(".")):
            raise AuditError(f"--set {option}: write it as group.field=value, for example --set defense.time_steps=100")
        if key in passed:
            raise AuditError(f"--set {key} is given twice")
        passed[key] = value
    return passed


@dataclass(frozen=True)
class Settings:
    """Everything a run is set to, the profile's values under those that were passed."""

    profile: Mapping[str, Any]
    passed: Mapping[str, str]

    def check(self, components: Iterable[Component[Any]]) -> None:
        """Raises AuditError for a passed option that no part of this run has."""
        kinds: dict[str, set[str]] = {"defense": set(), "attack": set()}
        groups = {name: {field.name for field in fields(cls)} for name, cls in GROUPS.items()}
        for component in components:
            groups[component.name] = set(component.fields)
            kinds[component.kind] |= set(component.fields)
        for key in self.passed:
            group, name = key.split(".")
            known = groups | kinds
            if group not in known:
                raise unknown("settings group", group, known)
            if not known[group]:
                raise AuditError(f"setting '{key}': nothing in this run has a setting under '{group}'")
            if name not in known[group]:
                raise unknown("setting", key, {f"{group}.{field}" for field in known[group]})

    def group(self, name: str) -> Any:
        """The settings dataclass of a group in GROUPS."""
        cls = GROUPS[name]
        known = {field.name for field in fields(cls)}
        return validated(cls, {k: v for k, v in self._of(name).items() if k in known}, name)

    def build(self, component: Component[Any]) -> Any:
        """The component with its settings: those of its kind that it has, those under its own name, what was passed.

        Raises AuditError where something was passed that a suite fixes for this variant.
        """
        shared = {key: value for key, value in self._of(component.kind).items() if key in component.fields}
        own = self._of(component.name, self.profile)
        passed = {key: value for key, value in self._of(component.kind, self.passed).items() if key in component.fields}
        fixed = set(component.presets) & {*passed, *self._of(component.name, self.passed)}
        if fixed:
            raise AuditError(
                f"--set {component.name}.{min(fixed)}: the suite fixes it for '{component.label}'; "
                f"run the attack by its own name, --attack {component.name}"
            )
        values = {**shared, **own, **component.presets, **passed, **self._of(component.name, self.passed)}
        return validated(component.factory, values, component.name)

    def _of(self, group: str, source: Mapping[str, Any] | None = None) -> dict[str, Any]:
        merged = {**self.profile, **self.passed} if source is None else source
        return {key.partition(".")[2]: value for key, value in merged.items() if key.partition(".")[0] == group}


def _plain(cls: type, field: str, value: Any) -> Any:
    """'none' as None, and for a field of several values the text's parts between commas."""
    if value == "none":
        return None
    several = get_origin(get_type_hints(cls).get(field)) is tuple
    return [part.strip() for part in value.split(",")] if several and isinstance(value, str) else value


def validated(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build the dataclass ``cls`` with types and ranges checked, text converted; the first error becomes one line."""
    try:
        return TypeAdapter(cls).validate_python({k: _plain(cls, k, v) for k, v in values.items()})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join([where, *(str(part) for part in first["loc"] if isinstance(part, str) and part.isidentifier())])
        raise AuditError(f"{key} = {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}") from error
