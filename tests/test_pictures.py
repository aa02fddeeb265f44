"""The picture grids: a column for what each attack makes of the undefended network and of the defense, and no other."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from audit.evidence import Evidence
from audit.pictures import _first, picture_grids, pictured
from audit.pipeline import Prepared, prepare_data
from audit.records import DefenseResult, SeedResult
from audit.request import UNDEFENDED, Request, resolve
from tests.records_factory import attack, defense, seed_result

VARIANTS = ("adaptive-reconversion (relu)", "adaptive-reconversion (clip)")
LABELS = ("reconversion", *VARIANTS, "weight-recovery")


@pytest.fixture(scope="module")
def data() -> Prepared:
    return prepare_data("digits", None, request_of("none").settings.group("data"))


def request_of(defenses: str) -> Request:
    """Two attacks that make images, one of them in variants, and one that makes none."""
    whole = resolve(defenses, "all", "digits", None, "smoke", (0,), None, "cpu", {}, "")
    chosen = tuple(component for component in whole.attacks if component.label in LABELS)
    assert {component.label for component in chosen} == set(LABELS)
    return resolve(defenses, chosen, "digits", None, "smoke", (0,), None, "cpu", {}, "")


def audited(name: str, leaks: Mapping[str, float] | None = None) -> DefenseResult:
    """A defense with the leakage of its attacks; none where the attack makes no images."""
    values = {"reconversion": 0.1, VARIANTS[0]: 0.2, VARIANTS[1]: 0.3, **(leaks or {})}
    return defense(name, 0.9, [attack(label, 40.0, values.get(label)) for label in LABELS], requested=True)


def grids(data: Prepared, request: Request, *defenses: DefenseResult, **without: str) -> dict[str, Any]:
    """``without``: an attack that brings nothing back from a defense, by the defense's name."""
    result: SeedResult = seed_result().model_copy(update={"defenses": defenses})
    labels = torch.arange(10).repeat(2)
    evidence = {}
    for number, target in enumerate(defenses):
        images = torch.full((20, *data.task.image_shape), number / 10)
        for component in request.attacks:
            found = component.evidence == "images" and without.get(target.defense) != component.label
            tensors = {"images": images, "labels": labels} if found else {}
            evidence[target.defense, component.label] = Evidence(component, {}, tensors=tensors)
    return picture_grids(data, request, result, evidence)


def columns(grid: Any) -> list[str]:
    return [label.replace("\n", " ") for label, _ in grid.columns]


def test_a_grid_holds_the_original_the_undefended_network_and_its_defense(data: Prepared) -> None:
    made = grids(data, request_of("privatesnn,dc-cet"), *map(audited, (UNDEFENDED, "dc-cet", "privatesnn")))
    assert list(made) == ["privatesnn", "dc-cet"]
    for name, grid in made.items():
        assert columns(grid) == [
            "original",
            f"reconversion on {UNDEFENDED}",
            f"reconversion on {name}",
            f"{VARIANTS[1]} on {UNDEFENDED}",
            f"{VARIANTS[1]} on {name}",
        ]
    values = [int(pixels[0].max()) for _, pixels in made["privatesnn"].columns[1:]]
    assert values == [128, 153, 128, 153]


def test_the_variant_is_the_one_that_leaks_most_from_the_defense_of_the_grid(data: Prepared) -> None:
    weaker = audited("dc-cet", {VARIANTS[0]: 0.9})
    made = grids(data, request_of("privatesnn,dc-cet"), audited(UNDEFENDED), weaker, audited("privatesnn"))
    assert columns(made["dc-cet"])[-1] == f"{VARIANTS[0]} on dc-cet"
    assert columns(made["privatesnn"])[-1] == f"{VARIANTS[1]} on privatesnn"


def test_a_variant_without_a_leakage_is_shown_where_no_other_has_one() -> None:
    chosen = request_of("none").attacks
    nothing = defense("none", 0.9, [attack(label, None, None, status="failed", reason="x") for label in LABELS])
    assert [component.label for component in pictured(chosen, nothing)] == ["reconversion", VARIANTS[0], LABELS[-1]]


def test_the_undefended_network_has_one_column_for_each_attack(data: Prepared) -> None:
    made = grids(data, request_of(f"none,{UNDEFENDED}"), audited("none"), audited(UNDEFENDED))
    assert columns(made[UNDEFENDED])[1:] == [f"reconversion on {UNDEFENDED}", f"{VARIANTS[1]} on {UNDEFENDED}"]
    assert columns(made["none"])[1:3] == [f"reconversion on {UNDEFENDED}", "reconversion on none"]


def test_what_protects_nothing_is_shown_alone_where_the_undefended_network_did_not_run(data: Prepared) -> None:
    assert columns(grids(data, request_of("none"), audited("none"))["none"])[1:] == [
        "reconversion on none",
        f"{VARIANTS[1]} on none",
    ]


def test_an_attack_that_brought_nothing_back_has_no_column(data: Prepared) -> None:
    given = (audited(UNDEFENDED), audited("privatesnn"))
    made = grids(data, request_of("privatesnn"), *given, privatesnn="reconversion")
    assert f"reconversion on {UNDEFENDED}" in columns(made["privatesnn"])
    assert "reconversion on privatesnn" not in columns(made["privatesnn"])


def test_a_defense_of_which_there_is_no_image_has_no_grid(data: Prepared) -> None:
    request = request_of("none")
    result = seed_result().model_copy(update={"defenses": (audited("none"),)})
    assert picture_grids(data, request, result, {}) == {}


def test_the_original_of_a_class_is_the_teacher_s_first(data: Prepared) -> None:
    [(_, originals), *_] = grids(data, request_of("none"), audited("none"))["none"].columns
    first = data.parts.teacher.pixels[data.parts.teacher.labels == 3][0]
    np.testing.assert_array_equal(originals[3], first.permute(1, 2, 0).numpy())


def test_the_picture_of_a_class_is_the_first_that_there_is() -> None:
    pixels = torch.arange(1, 7, dtype=torch.uint8).reshape(6, 1, 1, 1)
    assert _first(pixels, torch.tensor([1, 0, 1, 0, 2, 2]), 3).ravel().tolist() == [2, 1, 5]
