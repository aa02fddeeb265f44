"""What a run takes from the store and what it makes again."""

from collections.abc import Iterable
from pathlib import Path

from audit.run import Finished
from tests.conftest import tiny_run


def _made(finished: Finished) -> dict[str, bool]:
    """Stage -> whether it came from the store."""
    return {info.name: info.cached for info in finished.record.stages}


def _all_cached(finished: Finished, names: Iterable[str]) -> bool:
    return all(_made(finished)[name] for name in names)


def test_a_second_defense_on_the_same_teacher_trains_nothing_again(tmp_path: Path) -> None:
    first = tiny_run(tmp_path, "data-free-conversion")
    assert not any(_made(first).values())
    second = tiny_run(tmp_path, "privatesnn")
    assert _all_cached(second, ["teacher", "evaluator", "synthetic-images", "target: data-free-conversion"])
    assert _all_cached(second, ["evaluation: data-free-conversion", "attack: reconversion on data-free-conversion"])
    assert not _made(second)["target: privatesnn"]
    assert not _made(second)["target: dc-cet"]
    again = tiny_run(tmp_path, "privatesnn")
    assert all(_made(again).values())
    assert list(again.record.measurements()) == list(second.record.measurements())


def test_one_defense_more_on_a_warm_store_costs_its_own_stages_only(tmp_path: Path) -> None:
    tiny_run(tmp_path, "none,weight-normalization,conversion")
    more = _made(tiny_run(tmp_path, "none,weight-normalization,conversion,rmp-snn"))
    assert [name for name, cached in more.items() if not cached] == [
        "target: rmp-snn",
        "evaluation: rmp-snn",
        "attack: reconversion on rmp-snn",
        "observation: reconversion on rmp-snn",
        "measurements: reconversion on rmp-snn",
        "gradients: rmp-snn",
    ]


def test_a_changed_setting_makes_again_what_depends_on_it_and_no_more(tiny_store: Path) -> None:
    tiny_run(tiny_store, "data-free-conversion")
    steps = _made(tiny_run(tiny_store, "data-free-conversion", defense__time_steps="9"))
    (null,) = (name for name in steps if name.startswith("untrained"))
    assert [name for name, cached in steps.items() if not cached] == [
        "target: data-free-conversion",
        "evaluation: data-free-conversion",
        "attack: reconversion on data-free-conversion",
        "observation: reconversion on data-free-conversion",
        "measurements: reconversion on data-free-conversion",
        null,
        f"attack: reconversion on {null.replace(': ', ' ')}",
        "observation: reconversion on data-free-conversion (untrained)",
        "measurements: reconversion on data-free-conversion (untrained)",
        "gradients: data-free-conversion",
    ]
    updates = _made(tiny_run(tiny_store, "data-free-conversion", reconversion__updates="3"))
    remade = [name for name, cached in updates.items() if not cached]
    assert {name.partition(":")[0] for name in remade} == {"attack", "observation", "measurements"}
    points = _made(tiny_run(tiny_store, "data-free-conversion", measure__curve_points="2"))
    assert [name for name, cached in points.items() if not cached] == ["evaluation: data-free-conversion"]
    images = _made(tiny_run(tiny_store, "data-free-conversion", defense__synthesis_steps="6"))
    assert not images["synthetic-images"]
    assert images["teacher"]


def test_other_data_make_everything_again(tiny_store: Path) -> None:
    tiny_run(tiny_store, "none")
    for change in ({"data__split_seed": "1"}, {"data__test_images": "50"}, {"data__normalisation": "unit"}):
        made = _made(tiny_run(tiny_store, "none", **change))
        known = {name for name, cached in made.items() if cached}
        assert all("untrained" in name for name in known), change  # it never saw an image


def test_an_evaluator_of_another_architecture_is_another_evaluator(tiny_store: Path) -> None:
    first = tiny_run(tiny_store, "none").record.results[0]
    second = tiny_run(tiny_store, "none", evaluator__model="vgg9").record.results[0]
    third = tiny_run(tiny_store, "none", model="vgg9").record.results[0]
    assert [r.evaluator.architecture for r in (first, second, third)] == ["vgg5", "vgg9", "vgg9"]
    assert [r.evaluator.settings["model"] for r in (first, second, third)] == ["vgg5", "vgg9", "vgg9"]
    assert first.evaluator.hash != second.evaluator.hash == third.evaluator.hash
    assert first.teacher.hash == second.teacher.hash != third.teacher.hash


def test_teacher_and_evaluator_of_one_recipe_are_different_networks(tiny_store: Path) -> None:
    recipe = {"hidden": "8", "epochs": "2", "width": "0.1", "batch_size": "16"}
    recipe |= {"hidden_dropout": "0.1", "learning_rate": "0.03"}
    same = {f"{role}__{name}": value for role in ("teacher", "evaluator") for name, value in recipe.items()}
    result = tiny_run(tiny_store, "none", **same).record.results[0]
    assert result.teacher.settings == result.evaluator.settings
    assert result.teacher.hash != result.evaluator.hash
