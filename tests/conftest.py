"""A tiny audit: few images, epochs and steps, the same for every test that needs a run, and one store for all."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from audit.cli import main
from audit.monitor import SilentMonitor
from audit.registry import ATTACKS, DEFENSES
from audit.request import Request, resolve
from audit.run import Finished, run
from audit.settings import Settings
from audit.store import Store

# The tests take the cores already, one process each.
os.environ.setdefault("AUDIT_JOBS", "1")

TINY = {
    "data.train_images": "120",
    "data.test_images": "60",
    "teacher.epochs": "8",
    "teacher.batch_size": "16",
    "teacher.width": "0.15",
    "evaluator.epochs": "2",
    "evaluator.width": "0.1",
    "evaluator.hidden": "8",
    "defense.time_steps": "16",
    "defense.threshold_images": "20",
    "defense.synthetic_images": "20",
    "defense.synthesis_steps": "5",
    "defense.epochs": "1",
    "attack.images_per_class": "2",
    "reconversion.updates": "2",
    "direct-inversion.updates": "2",
    "direct-inversion.time_steps": "12",
    "adaptive-reconversion.updates": "2",
    "adaptive-reconversion.queries": "8",
    "adaptive-inversion.updates": "2",
    "adaptive-inversion.pilot_updates": "1",
    "adaptive-inversion.widths": "1.0",
    "adaptive-inversion.shapes": "triangle",
    "adaptive-inversion.time_steps": "4",
    "black-box-inversion.images_per_class": "2",
    "black-box-inversion.queries_per_image": "16",
    "label-only-inversion.images_per_class": "2",
    "label-only-inversion.queries_per_image": "16",
    "membership-inference.shadows": "1",
    "membership-inference.masks": "1",
    "measure.curve_points": "3",
    "measure.reference_images": "60",
}


@dataclass(frozen=True)
class Outcome:
    """What a command left behind: its exit code and what it printed."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """What a test registers is gone after it."""
    ATTACKS.discover()
    DEFENSES.discover()
    attacks, defenses = dict(ATTACKS.components), dict(DEFENSES.components)
    yield
    ATTACKS.components, DEFENSES.components = attacks, defenses


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the teacher and the evaluator of the tiny audit are kept for the whole session."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """command("--defense", "none", ...): what `python -m audit --defense none ...` does, in this process."""

    def invoke(*arguments: object) -> Outcome:
        monkeypatch.setattr("sys.argv", ["audit", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exited:
            main()
        printed = capsys.readouterr()
        assert isinstance(exited.value.code, int)
        return Outcome(exited.value.code, printed.out, printed.err)

    return invoke


def tiny_options(*without: str, attacks: Sequence[str] | None = None) -> list[str]:
    """The tiny settings as --set options, but for those that start with one of ``without``; of the attacks' settings
    those of ``attacks`` only, since one that nothing in a run has is an error."""
    others = () if attacks is None else [f"{name}." for name in ATTACKS.names() if name not in attacks]
    settings = {key: value for key, value in TINY.items() if not key.startswith((*without, *others))}
    return [
        "--jobs",
        "1",
        "--threads",
        "1",
        *(text for key, value in settings.items() for text in ("--set", f"{key}={value}")),
    ]


def tiny_request(defense: str, attack: str = "reconversion", model: str = "vgg5", **changed: str) -> Request:
    """``defense__time_steps="9"`` passes a setting; the tiny ones are as a profile's."""
    passed = {key.replace("__", "."): value for key, value in changed.items()}
    request = resolve(defense, attack, "digits", model, "smoke", (0,), None, "cpu", passed, "python -m audit")
    return replace(request, settings=Settings({**request.settings.profile, **TINY}, passed))


def tiny_run(store: Path, defense: str, attack: str = "reconversion", model: str = "vgg5", **changed: str) -> Finished:
    """A run without the command around it."""
    return run(tiny_request(defense, attack, model, **changed), Store(store), SilentMonitor())


@pytest.fixture
def audited(command: Command, tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The whole command, once: its folder and what it printed."""
    if "run" not in _ONCE:
        out = tmp_path_factory.mktemp("runs") / "digits"
        given = ("--defense", "privatesnn", "--attack", "all", "--store", tiny_store, "--out", out)
        _ONCE["run"] = out, command(*given, *tiny_options())
    return _ONCE["run"]


_ONCE: dict[str, tuple[Path, Outcome]] = {}
