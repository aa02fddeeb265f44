"""Settings: who overrides whom, and what is refused in one line."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from audit.data import DATASETS
from audit.errors import AuditError
from audit.registry import ATTACKS, DEFENSES, Component
from audit.request import resolve
from audit.settings import GROUPS, Settings, parse_options, validated
from audit.suites import PROFILES, SUITES


@dataclass(frozen=True)
class Gadget:
    """A component with a setting of every kind."""

    steps: int = 1
    rate: float = 0.5
    limit: int | None = 7

    def reconstruct(self, target: Any, context: Any) -> Any:
        raise NotImplementedError


GADGET: Component[Any] = Component("attack", "gadget", Gadget, "here", Path(__file__))


def _steps(profile: Mapping[str, Any], passed: Mapping[str, str]) -> int:
    steps = Settings(profile, passed).build(GADGET).steps
    assert isinstance(steps, int)
    return steps


def test_each_source_of_a_setting_overrides_the_ones_before_it() -> None:
    shared, named = {"attack.steps": 2}, {"attack.steps": 2, "gadget.steps": 3}
    assert _steps({}, {}) == 1
    assert _steps(shared, {}) == 2
    assert _steps(named, {}) == 3
    assert _steps(named, {"attack.steps": "4"}) == 4
    assert _steps(named, {"attack.steps": "4", "gadget.steps": "5"}) == 5
    assert _steps(named, {"gadget.steps": "5", "attack.steps": "4"}) == 5


def test_a_setting_of_the_other_kind_or_of_another_component_changes_nothing() -> None:
    assert _steps({"defense.steps": 9, "gadgets.steps": 9}, {"teacher.steps": "9"}) == 1


def test_a_profile_s_setting_that_only_some_components_have_is_left_out_elsewhere() -> None:
    assert Settings({"attack.blur_every": 4}, {}).build(GADGET) == Gadget()


def test_none_is_how_an_optional_setting_is_emptied_on_the_command_line() -> None:
    assert Settings({}, {"gadget.limit": "none"}).build(GADGET).limit is None
    with pytest.raises(AuditError, match=r"gadget\.steps = None: input should be a valid integer"):
        Settings({}, {"gadget.steps": "none"}).build(GADGET)


@pytest.mark.parametrize("text", ["steps=1", "defense.steps", "defense.=1", ".steps=1", "a.b.c=1", "", "=", "."])
def test_an_option_in_another_form_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(AuditError, match=r"write it as group\.field=value, for example --set defense\.time_steps=100"):
        parse_options([text])


def test_a_value_may_hold_an_equals_sign() -> None:
    assert parse_options(["measure.inception_weights=/a=b"]) == {"measure.inception_weights": "/a=b"}


def test_a_setting_given_twice_is_refused_even_with_the_same_value() -> None:
    with pytest.raises(AuditError, match=r"--set a\.b is given twice"):
        parse_options(["a.b=1", "c.d=1", "a.b=1"])


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("gadget.step", r"unknown setting 'gadget\.step'; did you mean 'gadget\.steps'\?"),
        ("attack.rat", r"unknown setting 'attack\.rat'; did you mean 'attack\.rate'\?"),
        ("gadgt.steps", r"unknown settings group 'gadgt'; did you mean 'gadget'\?"),
        ("techer.epochs", r"did you mean 'teacher'\?"),
        ("teacher.model", r"unknown setting 'teacher\.model'"),
        ("defense.steps", r"setting 'defense\.steps': nothing in this run has"),
    ],
)
def test_a_setting_that_no_part_of_the_run_has_is_refused(key: str, advice: str) -> None:
    with pytest.raises(AuditError, match=advice):
        Settings({}, {key: "1"}).check([GADGET])


def test_every_number_of_every_part_refuses_nan_infinity_and_what_is_below_zero() -> None:
    classes: list[tuple[str, type]] = list(GROUPS.items())
    for registry in (ATTACKS, DEFENSES):
        classes += [(name, registry.get(name).factory) for name in registry.names()]
    tried = 0
    for where, cls in classes:
        hints = get_type_hints(cls)
        for field in fields(cls):
            if hints[field.name] not in (int, float, int | None, float | None):
                continue
            for value in ("nan", "inf", "-inf", "-1", "1e999", "0x10", ""):
                with pytest.raises(AuditError, match=rf"^{where}\.{field.name} = "):
                    validated(cls, {field.name: value}, where)
                tried += 1
    assert tried > 300


@pytest.mark.parametrize("key", ["time_steps", "epochs", "learning_rate", "temperature", "synthetic_images"])
def test_zero_is_refused_where_nothing_would_happen(key: str) -> None:
    with pytest.raises(AuditError, match=rf"^privatesnn\.{key} = '0': input should be greater than"):
        Settings({}, {f"defense.{key}": "0"}).build(DEFENSES.get("privatesnn"))


@pytest.mark.parametrize("dataset", sorted(DATASETS))
@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_every_profile_sets_every_component_for_every_data_set(profile: str, dataset: str) -> None:
    request = resolve("all", ",".join(SUITES), dataset, None, profile, (0,), None, "cpu", {}, "")
    settings = request.settings
    components: list[Component[Any]] = [*request.compared, *request.attacks]
    parts = [settings.build(component) for component in components]
    assert {type(part) for part in parts} >= {component.factory for component in DEFENSES.select("all")}
    known = {group: {field.name for field in fields(cls)} for group, cls in GROUPS.items()}
    known |= {component.name: set(component.fields) for component in components}
    for kind in ("defense", "attack"):
        known[kind] = {name for component in components if component.kind == kind for name in component.fields}
    for key in settings.profile:
        group, name = key.split(".")
        assert name in known[group], f"profile {profile} sets {key}, which nothing has"


def test_the_paper_s_profile_has_the_paper_s_numbers_of_time_steps() -> None:
    for dataset, steps in (("cifar10", 150), ("cifar100", 200), ("tinyimagenet", 200)):
        request = resolve("privatesnn", "all", dataset, None, "paper", (0,), None, "cpu", {}, "")
        target = request.settings.build(DEFENSES.get("privatesnn"))
        assert (target.time_steps, target.epochs, target.distillation, target.temperature) == (steps, 20, 0.7, 20.0)
        assert request.model == "vgg16"


def test_a_setting_for_parts_that_have_none_is_refused_without_an_empty_list_of_suggestions() -> None:
    with pytest.raises(AuditError, match=r"setting 'defense\.time_steps': nothing in this run has a setting under"):
        resolve("none", "reconversion", None, None, "smoke", (0,), None, "cpu", {"defense.time_steps": "64"}, "")


def test_several_values_are_separated_by_commas() -> None:
    request = resolve(
        "data-free-conversion", "adaptive-inversion", None, None, "smoke", (0,), None, "cpu",
        {"adaptive-inversion.widths": "1, 2.5", "adaptive-inversion.shapes": "triangle"}, "",
    )  # fmt: skip
    built = request.settings.build(request.attacks[0])
    assert (built.widths, built.shapes) == ((1.0, 2.5), ("triangle",))
    with pytest.raises(AuditError, match=r"adaptive-inversion\.widths.* = '-1'"):
        resolve(
            "none", "adaptive-inversion", None, None, "smoke", (0,), None, "cpu",
            {"adaptive-inversion.widths": "1,-1"}, "",
        )  # fmt: skip
