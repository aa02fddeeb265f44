"""What `audit.audit` is given by mistake is one line that says what to do, before anything is trained."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from attacks.reconversion import Reconversion
from audit import audit as run_audit
from audit.api import teacher_images
from audit.contracts import DataAccess, DefenseContext
from audit.errors import AuditError
from audit.spiking.encoding import Encoder
from audit.spiking.network import SpikingNetwork
from defenses.privatesnn import PrivateSNN


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def train(*given: object) -> None:
        raise AssertionError("a teacher was trained")

    monkeypatch.setattr("audit.seed.train_teacher", train)
    monkeypatch.setenv("AUDIT_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)


def refusal(call: Callable[..., object], *given: Any, **named: Any) -> str:
    with pytest.raises(AuditError) as refused:
        call(*given, **named)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


class Plain:
    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> nn.Module:
        return teacher


@dataclass(frozen=True)
class Unnamed:
    """A field without a default."""

    data_access: ClassVar[DataAccess] = DataAccess.NONE
    strength: float

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> nn.Module:
        return teacher


@dataclass(frozen=True)
class Privatesnn(Unnamed):
    """Another class of a registered name."""


NOWHERE = type("Nowhere", (Unnamed,), {"__module__": "nowhere", "__doc__": "Typed at a prompt."})


def flat(classes: int = 10) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(256, classes))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, "3 is neither a name nor a defense's dataclass or an instance, nor a network"),
        (None, "None is neither a name"),
        ([flat()], "is neither a name nor a defense's dataclass"),
        (Plain(), "is neither a name nor a defense's dataclass"),
        (nn.Linear, "the class Linear is neither a name nor a defense's dataclass"),
        (Reconversion(), "defense 'reconversion' must be a dataclass with one method 'protect'"),
        ("privatsnn", "did you mean 'privatesnn'?"),
        (Path("gone.py"), "there is no file gone.py"),
        ({}, "there is no network for seed 0"),
        ({"vgg5": flat()}, "networks are given by seed: 'vgg5' is not a whole number"),
        ({0: "vgg5"}, "the network for seed 0 is a str, not a torch.nn.Module"),
        (Unnamed, "unnamed"),
        (Unnamed(strength=[]), "unnamed.strength = []: a setting is a number"),  # type: ignore[arg-type]
        (Unnamed(strength="strong"), "unnamed.strength = 'strong': input should be a valid number"),  # type: ignore[arg-type]
        (PrivateSNN(time_steps=0), "privatesnn.time_steps = '0': input should be greater than"),
        (Privatesnn(1.0), "two defenses are named 'privatesnn': defenses.privatesnn and tests.test_api_arguments"),
        (NOWHERE, "the class Nowhere is in no file"),
    ],
)
def test_what_is_no_defense_is_refused(given: Any, said: str) -> None:
    assert said in refusal(run_audit, given, "reconversion")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, "3 is neither a name nor an attack's dataclass or an instance"),
        (None, "None is neither a name nor an attack's"),
        ("reconversoin", "did you mean 'reconversion'?"),
        (["reconversion", "paper"], "unknown attack 'paper'"),
        (["reconversion", 3], "3 is neither a name nor an attack's"),
        ([], "attacks: none is named"),
        ("", "no attack named"),
        (PrivateSNN(), "attack 'private-snn' must be a dataclass with one method 'reconstruct' or"),
        ([Reconversion(), Reconversion(updates=3)], "attack 'reconversion' is given twice"),
        (["paper-v1", Reconversion(updates=3)], "attack 'reconversion' is given twice"),
        ([Reconversion, "class-leakage-v1"], "attack 'reconversion' is given twice"),
    ],
)
def test_what_is_no_attack_is_refused(given: Any, said: str) -> None:
    assert said in refusal(run_audit, "none", given)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("profile", "smok", "did you mean 'smoke'?"),
        ("profile", None, "unknown profile ''"),
        ("profile", 3, "profile: 3 is no name"),
        ("dataset", "digit", "did you mean 'digits'?"),
        ("dataset", ["digits"], "dataset: ['digits'] is no name"),
        ("model", "vgg", "unknown model 'vgg'"),
        ("model", flat(), "is no name"),
        ("device", "gpu", "gpu is not a device"),
        ("device", "cuda:99", "CUDA devices here"),
        ("device", 0, "device: 0 is no name"),
        ("seeds", (), "each given once; not nothing"),
        ("seeds", -1, "each given once; not -1"),
        ("seeds", (1, 1), "each given once; not 1,1"),
        ("seeds", 2**32, f"a seed is a whole number from 0 to {2**32 - 1}"),
        ("seeds", "0,1", "seeds: '0,1' is not a whole number"),
        ("seeds", 0.5, "seeds: 0.5 is not a whole number"),
        ("seeds", (0, "1"), "seeds: '1' is not a whole number"),
        ("seeds", torch.tensor(0.5), "seeds: tensor(0.5000) is not one seed, nor several"),
        ("seeds", True, "seeds: True is not a whole number"),
        ("settings", ["teacher.epochs=3"], "settings: a mapping 'group.field' -> value, not a list"),
        ("settings", {"epochs": 3}, "settings: 'epochs' is not 'group.field'"),
        ("settings", {"teacher.": 3}, "settings: 'teacher.' is not 'group.field'"),
        ("settings", {"teacher.epochs.all": 3}, "settings: 'teacher.epochs.all' is not 'group.field'"),
        ("settings", {3: 3}, "settings: 3 is not 'group.field'"),
        ("settings", {"teacher.epoch": 3}, "did you mean 'teacher.epochs'?"),
        ("settings", {"teacher.epochs": "many"}, "teacher.epochs = 'many'"),
        ("settings", {"teacher.epochs": {"first": 3}}, "teacher.epochs = {'first': 3}: a setting is a number"),
        ("settings", {"teacher.epochs": torch.tensor(3)}, "teacher.epochs = tensor(3): a setting is a number"),
        ("settings", {"teacher.epochs": ()}, "teacher.epochs = (): a setting is a number"),
        ("settings", {"teacher.epochs": ((1, 2), 3)}, "teacher.epochs = (1, 2): a setting is a number"),
        ("data_root", 3, "data_root: 3 is no path"),
        ("store", "", "store: '' is no path"),
        ("store", "~nobody-of-that-name/store", "store: ~nobody-of-that-name/store: "),
        ("store", __file__, "cannot write to the store"),
        ("out", 3, "out: 3 is no path"),
        ("out", str(Path(__file__).parent), "is not an empty folder"),
    ],
)
def test_every_other_argument_is_refused_by_name(name: str, given: Any, said: str) -> None:
    assert said in refusal(run_audit, "none", "reconversion", **{name: given})


def test_a_data_root_without_the_data_is_refused(tmp_path: Path) -> None:
    told = refusal(run_audit, "none", "reconversion", "tinyimagenet", data_root=str(tmp_path))
    assert str(tmp_path) in told


def test_a_value_stands_in_the_instance_or_in_the_settings() -> None:
    told = refusal(run_audit, PrivateSNN(time_steps=64), "reconversion", settings={"privatesnn.time_steps": 32})
    assert "settings: 'privatesnn.time_steps' is a field of the instance" in told


def test_a_network_per_seed_is_wanted_for_every_seed() -> None:
    assert "there is no network for seed 1" in refusal(run_audit, {0: flat()}, "reconversion", seeds=(0, 1))


class Own(nn.Module):
    """Answers with ``give`` of the images and of logits that are right."""

    def __init__(self, give: Callable[["Own", Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.layers, self.give = flat(), give
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Any:
        return self.give(self, x, self.layers(x))


def remembering(own: Own, x: Tensor, logits: Tensor) -> Tensor:
    own.last = logits.detach() if own.last is None else own.last + logits.detach()
    return own.last + 0 * logits.sum()


def auxiliary(own: Own, x: Tensor, logits: Tensor) -> Any:
    return (logits, logits) if own.training else logits


def hopeless(own: Own, x: Tensor, logits: Tensor) -> Any:
    raise ValueError("first line\nsecond line")


class Blocked(torch.autograd.Function):
    """A surrogate gradient with a mistake in it."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Any:
        raise ZeroDivisionError("width")


@pytest.mark.parametrize(
    ("give", "said"),
    [
        (hopeless, "its forward raised ValueError: first line second line;"),
        (lambda own, x, logits: logits[:, :7], "it returns [2, 7] for a batch of 2"),
        (lambda own, x, logits: logits.mean(0), "it returns [10] for a batch of 2"),
        (lambda own, x, logits: (logits, logits), "it returns a tuple and not logits"),
        (lambda own, x, logits: logits.argmax(1), "it returns torch.int64 and not logits"),
        (lambda own, x, logits: logits.detach(), "its logits have no gradient with respect to the image"),
        (lambda own, x, logits: own.layers(x.detach()), "its logits have no gradient with respect to the image"),
        (lambda own, x, logits: Blocked.apply(logits), "its backward raised ZeroDivisionError: width;"),
        (remembering, "it returns [2, 10] for a batch of 1;"),
        (auxiliary, "it returns a tuple and not logits"),
    ],
)
def test_a_module_that_does_not_classify_is_refused_by_its_class(give: Any, said: str) -> None:
    told = refusal(run_audit, Own(give), "reconversion")
    assert told.startswith("a tests.test_api_arguments.Own cannot be audited on digits: ")
    assert said in told
    assert told.endswith("it has to map float [N, 1, 16, 16] in [-1, 1] to float [N, 10]")


def spiking(coding: Any) -> SpikingNetwork:
    return SpikingNetwork(flat(), Encoder(coding), 8)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (nn.Sequential(nn.Conv2d(3, 10, 3)), "a torch.nn.modules.container.Sequential cannot be audited on digits"),
        (flat(12), "it returns [2, 12] for a batch of 2"),
        (flat().double(), "its forward raised RuntimeError: "),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), "its weights cannot be stored"),
        (SpikingNetwork(flat(3), Encoder(), 8), "it returns [2, 3] for a batch of 2"),
        (spiking("latency"), "its forward raised AuditError: "),
    ],
)
def test_layers_that_do_not_fit_the_images_are_refused(network: nn.Module, said: str) -> None:
    assert said in refusal(run_audit, network, "reconversion")


def test_every_network_is_looked_at_before_the_first_is_audited() -> None:
    told = refusal(run_audit, {0: flat(), 1: flat(), 2: flat(9)}, "reconversion")
    assert "it returns [2, 9] for a batch of 2" in told


def test_what_is_expected_is_what_the_settings_make_of_the_data() -> None:
    options = {"data.normalisation": "unit", "data.image_size": 24}
    told = refusal(run_audit, flat(), "reconversion", settings=options)
    assert told.endswith("it has to map float [N, 1, 24, 24] in [0, 1] to float [N, 10]")


def test_a_module_that_cannot_be_copied_is_refused_by_its_class() -> None:
    network = Own(lambda own, x, logits: logits)
    network.last = network(torch.zeros(1, 1, 16, 16))
    told = refusal(run_audit, network, "reconversion")
    assert told.startswith("a tests.test_api_arguments.Own cannot be copied (RuntimeError: ")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"dataset": "digit"}, "did you mean 'digits'?"),
        ({"dataset": None}, "unknown dataset 'None'"),
        ({"dataset": 3}, "dataset: 3 is no name"),
        ({"profile": "smok"}, "did you mean 'smoke'?"),
        ({"data_root": 3}, "data_root: 3 is no path"),
        ({"settings": {"data.train_image": 100}}, "did you mean 'data.train_images'?"),
        ({"settings": {"train_images": 100}}, "settings: 'train_images' is not 'group.field'"),
    ],
)
def test_images_of_the_teacher_are_asked_for_by_what_there_is(named: dict[str, Any], said: str) -> None:
    assert said in refusal(teacher_images, **{"dataset": "digits", **named})


def test_images_of_the_teacher_may_be_asked_for_with_all_settings_of_the_audit() -> None:
    options = {"data.train_images": 200, "my-defense.strength": 2.0, "defense.time_steps": 7, "teacher.epochs": 3}
    assert len(teacher_images("digits", settings=options)[1]) == 140
