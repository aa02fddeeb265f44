"""The stages one by one: what becomes of an attack or of a defense that goes wrong, and what is kept on the way."""

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from audit.contracts import AttackContext, DataAccess, DefenseContext, NotApplicable, Reconstructions
from audit.errors import AuditError
from audit.evidence import Evidence, attack
from audit.monitor import SilentMonitor
from audit.pipeline import (
    Prepared,
    Subject,
    Target,
    Trained,
    defense_context,
    examine,
    prepare_data,
    protect,
    train_teacher,
)
from audit.registry import DEFENSES, Component
from audit.settings import Settings
from audit.store import Store, Unusable
from audit.workshop import Workshop
from tests.conftest import tiny_request, tiny_run


@dataclass(frozen=True)
class Attacker:
    """An attack that brings back two images per class; ``evil`` says what is wrong with them."""

    evil: str = ""
    images_per_class: int = 2

    def reconstruct(self, target: nn.Module, context: AttackContext) -> Reconstructions:
        labels = torch.arange(10).repeat(self.images_per_class)
        images = torch.zeros(20, *context.task.image_shape)
        match self.evil:
            case "nan":
                images[3, 0, 2, 2] = torch.nan
            case "infinite":
                images[3, 0, 2, 2] = torch.inf
            case "shape":
                images = images[:, :, :8]
            case "out of range":
                images[19] = 1.5
            case "uint8":
                images = images.to(torch.uint8)
            case "double":
                images = images.double()
            case "label":
                labels = labels + 1
            case "float label":
                labels = labels.float()
            case "few labels":
                labels = labels[:10]
            case "nothing":
                return None  # type: ignore[return-value]
            case "empty":
                return Reconstructions(images[:0], labels[:0])
            case "raises":
                raise ZeroDivisionError("on purpose")
            case "notes":
                context.notes["tensor"] = images
            case "nan note":
                context.notes["loss"] = float("nan")
            case "audit error":
                raise AuditError("a setting does not suit this target")
            case "not applicable":
                raise NotApplicable("it only knows other targets")
            case "half of the classes":
                return Reconstructions(images[:5], labels[:5])
            case "gradient":
                images.requires_grad_()
            case "slow":
                with context.monitor.steps("for ever", 10**9) as advance:
                    for _ in range(10**9):
                        advance()
            case "vandal":
                for parameter in target.parameters():
                    parameter.data.zero_()
        return Reconstructions(images, labels)


ATTACKER: Component[Any] = Component("attack", "attacker", Attacker, "here", Path(__file__))


@dataclass(frozen=True)
class Stage:
    """Everything up to a target, made once."""

    shop: Workshop
    data: Prepared
    teacher: Trained
    target: Target
    options: Settings

    def attacked(self, evil: str, shop: Workshop | None = None) -> Evidence:
        options = replace(self.options, passed={**self.options.passed, "attacker.evil": evil})
        subject = Subject(self.target.component.name, self.target.network, self.target.key)
        return attack(shop or self.shop, self.data, subject, ATTACKER, options, 0)


@pytest.fixture(scope="module")
def stage(tiny_store: Path) -> Stage:
    request = tiny_request("data-free-conversion")
    options, component = request.settings, DEFENSES.get("data-free-conversion")
    data = prepare_data("digits", None, options.group("data"))
    shop = Workshop(Store(tiny_store), SilentMonitor(), request.device)
    teacher = train_teacher(shop, data, "vgg5", options.group("teacher"), 0)
    target = examine(shop, data, protect(shop, data, teacher, component, options, 0), component, options, 0)
    return Stage(shop, data, teacher, target, options)


# What an attack brings back


def test_an_honest_attack_is_ok(stage: Stage) -> None:
    evidence = stage.attacked("")
    assert (evidence.status, evidence.reason) == ("ok", None)
    assert evidence.found is not None
    assert len(evidence.found.labels) == 20


@pytest.mark.parametrize(
    ("evil", "reason"),
    [
        ("nan", "diverged: an image has values that are not finite"),
        ("infinite", "diverged: an image has values that are not finite"),
        ("shape", r"images have shape \(20, 1, 8, 16\), not \(20, 1, 16, 16\)"),
        ("out of range", r"images leave the input range \[-1.0, 1.0\]"),
        ("uint8", r"images are torch\.uint8"),
        ("double", r"images are torch\.float64"),
        ("label", "labels run from 1 to 10; there are 10 classes"),
        ("float label", r"labels torch\.float32"),
        ("few labels", r"images have shape \(20, 1, 16, 16\), not \(10, 1, 16, 16\)"),
        ("half of the classes", r"2 images of every class were asked for, \[1, 1, 1, 1, 1, 0"),
        ("nothing", "a NoneType came back, not Reconstructions"),
        ("empty", r"labels have shape \(0,\), not \(N,\) with N > 0"),
        ("raises", "ZeroDivisionError: on purpose"),
        ("audit error", "AuditError: a setting does not suit this target"),
        ("notes", "not JSON serializable"),
        ("nan note", "not JSON compliant"),
    ],
)
def test_what_is_wrong_with_an_attack_is_its_result(stage: Stage, evil: str, reason: str) -> None:
    evidence = stage.attacked(evil)
    assert evidence.status == "failed"
    assert evidence.reason is not None
    assert evidence.found is None
    assert (evidence.hash(), evidence.tensors) == (None, {})
    assert evidence.settings == {"evil": evil, "images_per_class": 2}
    assert re.search(reason, evidence.reason)


def test_a_failed_attack_is_not_stored_and_fails_again(stage: Stage) -> None:
    before = len(stage.shop.stages)
    assert stage.attacked("raises") == stage.attacked("raises")
    assert len(stage.shop.stages) == before


def test_an_attack_that_does_not_apply_says_so_and_did_not_fail(stage: Stage) -> None:
    result = stage.attacked("not applicable")
    assert (result.status, result.reason) == ("not-applicable", "it only knows other targets")


def test_an_attack_that_takes_too_long_is_stopped_and_recorded(stage: Stage) -> None:
    hasty = replace(stage, options=replace(stage.options, passed={"measure.attack_seconds": "0.2"}))
    evidence = hasty.attacked("slow")
    assert (evidence.status, evidence.reason) == (
        "timed-out",
        "stopped after 0.2 s; the limit is measure.attack_seconds",
    )
    assert evidence.found is None


def test_images_that_still_carry_a_gradient_are_taken_without_it(stage: Stage) -> None:
    evidence = stage.attacked("gradient")
    assert evidence.status == "ok"
    assert evidence.found is not None
    assert not evidence.found.images.requires_grad


def test_an_attack_works_on_a_copy_of_the_target(stage: Stage) -> None:
    before = {name: tensor.clone() for name, tensor in stage.target.network.state_dict().items()}
    assert stage.attacked("vandal").status == "ok"
    for name, tensor in stage.target.network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_store_that_cannot_be_written_is_not_the_attack_s_failure(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AuditError("cannot write to the store")

    store = Store(tmp_path)
    monkeypatch.setattr(store, "put", refuse)
    with pytest.raises(AuditError, match="cannot write to the store"):
        stage.attacked("", Workshop(store, SilentMonitor(), torch.device("cpu")))


def test_a_store_that_is_full_within_an_attack_is_not_its_failure(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:  # as of the shadow network that membership inference has made
        raise Unusable("cannot write to the store")

    monkeypatch.setattr(Attacker, "reconstruct", refuse)
    with pytest.raises(Unusable, match="cannot write to the store"):
        stage.attacked("full")


def test_an_interrupted_attack_ends_the_run(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Attacker, "reconstruct", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stage.attacked("interrupted")


# What a defense makes on the way


@dataclass(frozen=True)
class Memo:
    size: int = 1


@dataclass(frozen=True)
class Memorandum:
    size: int = 1


def test_a_defense_s_intermediate_is_made_once_per_settings_seed_and_network(stage: Stage, tmp_path: Path) -> None:
    calls: list[str] = []

    def make() -> dict[str, Tensor]:
        calls.append("made")
        return {"x": torch.ones(1)}

    def ask(settings: Memo | Memorandum, weight: float = 1.0, seed: int = 0) -> int:
        shop = Workshop(Store(tmp_path), SilentMonitor(), torch.device("cpu"))
        private, network = stage.data.parts.teacher, nn.Sequential(nn.Linear(1, 1, bias=False))
        nn.init.constant_(network[0].weight, weight)  # type: ignore[arg-type]
        context = defense_context(shop, stage.data.task, DataAccess.NONE, private, seed)
        assert torch.equal(context.stored("memo", network, settings, make)["x"], torch.ones(1))
        return len(calls)

    assert [ask(Memo()), ask(Memo())] == [1, 1]
    assert [ask(Memo(2)), ask(Memo(), weight=2.0), ask(Memo(), seed=1), ask(Memorandum())] == [2, 3, 4, 5]


def test_a_defense_s_intermediate_is_made_again_when_the_file_that_makes_it_changes(
    stage: Stage, tmp_path: Path
) -> None:
    def made_by(value: int) -> float:
        path = tmp_path / "maker.py"
        path.write_text(f"import torch\ndef make():\n    return {{'x': torch.tensor([{value}.0])}}\n")
        namespace: dict[str, Any] = {}
        exec(compile(path.read_text(), str(path), "exec"), namespace)
        shop = Workshop(Store(tmp_path), SilentMonitor(), torch.device("cpu"))
        context = defense_context(shop, stage.data.task, DataAccess.NONE, stage.data.parts.teacher, 0)
        return float(context.stored("memo", nn.Sequential(), Memo(), namespace["make"])["x"])

    assert [made_by(1), made_by(1), made_by(2)] == [1.0, 1.0, 2.0]


# What a defense may return


@dataclass(frozen=True)
class Odd:
    """Returns something that cannot be stored, or leaves notes that cannot."""

    what: str = "layer"
    data_access: ClassVar[DataAccess] = DataAccess.NONE

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> nn.Module:
        if self.what == "notes":
            context.notes["loss"] = float("inf")
            return teacher
        if self.what == "nothing":
            return None  # type: ignore[return-value]
        return nn.Sequential(nn.BatchNorm2d(1), teacher)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("layer", r"what defense 'odd' made cannot be stored: .*layer '0' \(BatchNorm2d\) cannot be stored"),
        ("notes", "what defense 'odd' made cannot be stored: .*not JSON compliant"),
        ("nothing", "defense 'odd' returned NoneType, not a network"),
    ],
)
def test_a_defense_whose_target_cannot_be_stored_is_named(stage: Stage, what: str, reason: str) -> None:
    component: Component[Any] = Component("defense", "odd", Odd, "here", Path(__file__))
    options = Settings({}, {"odd.what": what})
    with pytest.raises(AuditError, match=reason):
        protect(stage.shop, stage.data, stage.teacher, component, options, 0)


def test_a_teacher_that_diverged_is_an_error_with_advice(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"the teacher diverged; lower teacher\.learning_rate \(now 1e\+30\)"):
        tiny_run(tmp_path, "none", teacher__learning_rate="1e30")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_what_can_only_fail_later_fails_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="vgg16 halves the image 5 times"):
        tiny_run(tmp_path, "none", evaluator__model="vgg16")
    with pytest.raises(AuditError, match="cannot read the Inception weights"):
        tiny_run(tmp_path, "none", measure__inception_weights=str(tmp_path / "gone"))
    with pytest.raises(AuditError, match="unknown model 'vgg7'"):
        tiny_run(tmp_path, "none", evaluator__model="vgg7")
    assert list(tmp_path.iterdir()) == []


def test_the_settings_of_a_target_in_the_record_are_the_resolved_ones(stage: Stage) -> None:
    built = stage.options.build(stage.target.component)
    assert stage.target.settings == asdict(built)
    assert (built.time_steps, built.leak) == (16, 1.0)
