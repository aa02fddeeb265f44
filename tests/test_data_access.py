"""Who can reach what: an object graph is walked from everything that a defense or an attack is handed."""

import functools
import gc
import io
import itertools
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, ClassVar

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from audit.assessment import Assessor, defense_result
from audit.contracts import AttackContext, DataAccess, DefenseContext, Images, NotApplicable, Reconstructions
from audit.data.parts import Parts
from audit.errors import AuditError
from audit.evidence import attack
from audit.monitor import LiveMonitor
from audit.observation import Observer
from audit.pipeline import (
    Prepared,
    Subject,
    Trained,
    defense_context,
    examine,
    prepare_data,
    protect,
    train_evaluator,
    train_teacher,
)
from audit.registry import DEFENSES, Component
from audit.settings import Settings
from audit.store import Store
from audit.workshop import Workshop
from tests.conftest import tiny_request

WITNESSED: list[Any] = []
# What is stored is not handed over again: every look needs a seed of its own; 0 is that of the column in the record.
SEEDS = itertools.count(1)


def reachable(*roots: Any) -> Iterator[Any]:
    """Every object that ``roots`` lead to: by attributes, containers, closures, bound methods and weak references.

    Modules, classes and a function's globals are not followed: they are everybody's, and hold no run's data.
    """
    seen: set[int] = set()
    pending: list[Any] = list(roots)
    while pending:
        item = pending.pop()
        module_globals = isinstance(item, dict) and "__builtins__" in item and "__name__" in item
        if id(item) in seen or module_globals or isinstance(item, ModuleType | type):
            continue
        seen.add(id(item))
        yield item
        if isinstance(item, FunctionType):
            pending += [item.__closure__, item.__defaults__, item.__kwdefaults__, item.__dict__]
            continue
        pending += gc.get_referents(item)
        if isinstance(item, weakref.ref):
            pending.append(item())
        if isinstance(item, Tensor):
            pending += [item._base, item.grad, item.grad_fn]


def storages(tensors: Any) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


def private_objects(data: Prepared, *roots: Any) -> list[Any]:
    """What of ``data`` can be reached: the sets, and tensors that share a private image's memory or equal one."""
    sets = (data.parts.teacher, data.parts.evaluator, data.parts.test)
    memory = storages(tensor for images in sets for tensor in (images.pixels, images.labels))
    pictures = {image.numpy().tobytes() for images in sets for image in images.pixels}
    found: list[Any] = []
    for item in reachable(*roots):
        if isinstance(item, Images | Parts | Prepared):
            found.append(item)
        elif isinstance(item, Tensor) and not isinstance(item, nn.Parameter):
            rows: Iterable[Tensor] = (
                item.detach().reshape(-1, *data.task.image_shape) if item.ndim >= 3 and _fits(item, data) else []
            )
            if item.untyped_storage().data_ptr() in memory or any(
                row.to(torch.uint8).numpy().tobytes() in pictures for row in rows
            ):
                found.append(item)
    return found


def _fits(tensor: Tensor, data: Prepared) -> bool:
    return tuple(tensor.shape[-3:]) == data.task.image_shape


@dataclass(frozen=True)
class Curious:
    """Keeps what it is handed in sight."""

    data_access: ClassVar[DataAccess] = DataAccess.NONE
    baselines: ClassVar[tuple[str, ...]] = ()

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> nn.Module:
        WITNESSED.append((teacher, context))
        return teacher


@dataclass(frozen=True)
class Entitled(Curious):
    """Says that it needs the training images."""

    data_access: ClassVar[DataAccess] = DataAccess.TRAINING_IMAGES


@dataclass(frozen=True)
class Grasping(Curious):
    """Says in its class that it needs nothing, and in its instance that it needs everything."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "data_access", DataAccess.TRAINING_IMAGES)


@dataclass(frozen=True)
class Spy:
    """An attack that keeps what it is handed in sight."""

    images_per_class: int = 1

    def reconstruct(self, target: nn.Module, context: AttackContext) -> Reconstructions:
        WITNESSED.append((target, context))
        raise NotApplicable("it only looked")


@dataclass(frozen=True)
class Scene:
    """A teacher trained on private images, in the workshop that trained it."""

    shop: Workshop
    data: Prepared
    teacher: Trained
    evaluator: Trained
    options: Settings


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    # A store of its own: what is asked is what the harness hands over in the run that trains, not in the next one.
    request = tiny_request("none", teacher__epochs="1", evaluator__epochs="1")
    options = request.settings
    data = prepare_data("digits", None, options.group("data"))
    monitor = LiveMonitor(Console(file=io.StringIO()))
    shop = Workshop(Store(tmp_path_factory.mktemp("scene")), monitor, request.device)
    teacher = train_teacher(shop, data, "vgg5", options.group("teacher"), 0)
    return Scene(shop, data, teacher, train_evaluator(shop, data, "vgg5", options.group("evaluator")), options)


def _handed_to_a_defense(scene: Scene, factory: type) -> tuple[nn.Sequential, DefenseContext]:
    WITNESSED.clear()
    component: Component[Any] = Component("defense", factory.__name__.lower(), factory, "here", Path(__file__))
    protect(scene.shop, scene.data, scene.teacher, component, scene.options, next(SEEDS))
    (handed,) = WITNESSED
    assert isinstance(handed[1], DefenseContext)
    return handed  # type: ignore[no-any-return]


def test_a_data_free_defense_cannot_reach_a_private_image(scene: Scene) -> None:
    teacher, context = _handed_to_a_defense(scene, Curious)
    assert context.private_images is None
    assert private_objects(scene.data, teacher, context) == []


def test_the_walk_sees_the_images_where_a_defense_is_entitled_to_them(scene: Scene) -> None:
    teacher, context = _handed_to_a_defense(scene, Entitled)
    found = private_objects(scene.data, teacher, context)
    assert any(item is scene.data.parts.teacher for item in found)
    assert any(item is scene.data.parts.teacher.pixels for item in found)


def test_an_entitled_defense_gets_the_teacher_s_part_and_neither_the_evaluator_s_nor_the_test(scene: Scene) -> None:
    teacher, context = _handed_to_a_defense(scene, Entitled)
    others = storages([scene.data.parts.evaluator.pixels, scene.data.parts.test.pixels])
    tensors = [item for item in reachable(teacher, context) if isinstance(item, Tensor)]
    assert not storages(tensors) & others
    assert not any(isinstance(item, Parts | Prepared) for item in reachable(teacher, context))


@pytest.mark.parametrize("hiding", ["closure", "bound method", "partial", "list", "weak", "copy"])
def test_the_walk_finds_images_wherever_they_are_hidden(scene: Scene, hiding: str) -> None:
    images = scene.data.parts.teacher
    hidden: Any = {
        "closure": lambda: images,
        "bound method": images.__len__,
        "partial": functools.partial(print, images),
        "list": [{"deep": (images,)}],
        "weak": weakref.ref(images),
        "copy": images.pixels.clone().float(),
    }[hiding]
    assert private_objects(scene.data, hidden)


def test_what_a_defense_is_handed_is_decided_by_its_class_and_by_no_instance(scene: Scene) -> None:
    teacher, context = _handed_to_a_defense(scene, Grasping)
    assert context.private_images is None
    assert private_objects(scene.data, teacher, context) == []


def test_the_column_in_the_record_is_what_the_harness_went_by(scene: Scene) -> None:
    for factory in (Curious, Entitled, Grasping):
        component: Component[Any] = Component("defense", factory.__name__.lower(), factory, "here", Path(__file__))
        made = protect(scene.shop, scene.data, scene.teacher, component, scene.options, 0)
        target = examine(scene.shop, scene.data, made, component, scene.options, 0)
        handed = factory is Entitled
        assert defense_result(target, [], [], [], None, True).data_access == ("training-images" if handed else "none")


def test_a_defense_is_given_a_copy_of_the_teacher(scene: Scene) -> None:
    teacher, context = _handed_to_a_defense(scene, Curious)
    original = storages(scene.teacher.network.parameters())
    assert not storages(i for i in reachable(teacher, context) if isinstance(i, Tensor)) & original
    assert not any(item is scene.teacher.network for item in reachable(teacher, context))


DATA_FREE = (
    "data-free-conversion", "data-free-distillation", "data-free-quantization", "dc-cet", "none", "privatesnn",
    "quantized-privatesnn", "quantized-privatesnn-ptq",
)  # fmt: skip


@pytest.mark.parametrize("name", DEFENSES.names())
def test_the_data_free_ones_among_ours_are_handed_no_image(scene: Scene, name: str) -> None:
    access = DEFENSES.get(name).factory.data_access
    context = defense_context(scene.shop, scene.data.task, access, scene.data.parts.teacher, 0)
    entitled = name not in (*DATA_FREE, "checkpoint", "nir")
    assert (context.private_images is not None) == entitled
    assert bool(private_objects(scene.data, context)) == entitled


def test_an_attack_is_handed_neither_the_teacher_nor_an_image(scene: Scene) -> None:
    WITNESSED.clear()
    shop, data, options = scene.shop, scene.data, scene.options
    component = DEFENSES.get("none")
    made = protect(shop, data, scene.teacher, component, options, 0)
    target = examine(shop, data, made, component, options, 0)
    spy: Component[Any] = Component("attack", "spy", Spy, "here", Path(__file__))
    assert attack(shop, data, Subject("none", target.network, target.key), spy, options, 0).status == "not-applicable"
    (handed,) = WITNESSED
    assert private_objects(data, *handed) == []
    objects = list(reachable(*handed))
    assert not any(isinstance(item, Trained | Assessor | Observer | DefenseContext | Store) for item in objects)
    tensors = storages(item for item in objects if isinstance(item, Tensor))
    for network in (scene.teacher.network, scene.evaluator.network, target.network):
        assert not any(item is network for item in objects)
        assert not tensors & storages(network.parameters())


def test_access_cannot_be_widened_from_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "widening.py"
    path.write_text(
        "from dataclasses import dataclass\nfrom audit.contracts import DataAccess\n"
        "from audit.registry import register_defense\n\n@dataclass(frozen=True)\nclass Widening:\n"
        "    data_access: DataAccess = DataAccess.NONE\n    def protect(self, teacher, context): return teacher\n\n"
        "register_defense('widening', Widening)\n"
    )
    with pytest.raises(AuditError, match="must declare data_access: ClassVar"):
        DEFENSES.get(str(path))
    assert "widening" not in DEFENSES.names()
