"""The command: what is wrong with its input is one line and exit code 2, and nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

import audit
from audit.data import DATASETS
from audit.networks.vgg import NETWORKS
from audit.records import Record
from audit.registry import ATTACKS, DEFENSES
from audit.request import SEED_LIMIT
from audit.suites import PROFILES, SUITES, TRACKS
from tests.conftest import Command, tiny_options

ROOT = Path(audit.__file__).parents[1]
DEADLINE = 60.0

SLOW_ATTACK = """
import time
from dataclasses import dataclass
from pathlib import Path
from audit.contracts import NotApplicable
from audit.registry import register_attack

@dataclass(frozen=True)
class Slow:
    images_per_class: int = 1
    def reconstruct(self, target, context):
        begun = Path(__file__).with_suffix(".begun")
        if begun.exists():
            raise NotApplicable("the second time it ends")
        begun.touch()
        time.sleep(120)

register_attack("slow", Slow)
"""

BAD_INPUT = {
    "no defense": ([], "name a defense: --defense privatesnn, or --defense all"),
    "unknown defense": (["--defense", "privatsnn"], "unknown defense 'privatsnn'; did you mean 'privatesnn'?"),
    "unknown defense among others": (["--defense", "none,dccet"], "unknown defense 'dccet'; did you mean 'dc-cet'?"),
    "unknown attack": (["--attack", "reconversoin"], "unknown attack 'reconversoin'; did you mean 'reconversion'?"),
    "empty attack": (["--attack", ""], "no attack named: --attack takes a name"),
    "unknown data set": (["--dataset", "cifar-10"], "unknown dataset 'cifar-10'; did you mean 'cifar10'?"),
    "unknown model": (["--model", "vgg6"], "unknown model 'vgg6'; did you mean 'vgg"),
    "unknown profile": (["--profile", "smal"], "unknown profile 'smal'; did you mean 'small'?"),
    "a file that is not there": (["--defense", "./gone.py"], "there is no file gone.py to load the defense from"),
    "T = 0": (["--set", "defense.time_steps=0"], "time_steps = '0': input should be greater than or equal to 1"),
    "negative": (["--set", "teacher.learning_rate=-1"], "teacher.learning_rate = '-1': input should be greater than 0"),
    "nan": (["--set", "defense.leak=nan"], "leak = 'nan': input should be"),
    "nan rate": (["--set", "teacher.learning_rate=NaN"], "teacher.learning_rate = 'NaN': input should be"),
    "infinite": (["--set", "attack.rate=inf"], "rate = 'inf': input should be a finite number"),
    "not a number": (["--set", "teacher.epochs=many"], "teacher.epochs = 'many': input should be a valid integer"),
    "not a choice": (["--set", "data.normalisation=z"], "data.normalisation = 'z': input should be 'signed' or 'unit'"),
    "no image per class": (["--set", "data.train_images=5"], "5 train images cannot cover 10 classes"),
    "unknown setting": (["--set", "defense.timesteps=9"], "did you mean 'defense.time_steps'?"),
    "unknown group": (["--set", "defence.time_steps=9"], "unknown settings group 'defence'; did you mean 'defense'?"),
    "no value": (["--set", "defense.time_steps"], "write it as group.field=value"),
    "no group": (["--set", "time_steps=9"], "write it as group.field=value"),
    "twice": (["--set", "teacher.epochs=2", "--set", "teacher.epochs=3"], "--set teacher.epochs is given twice"),
    "image size twice": (
        ["--image-size", "8", "--set", "data.image_size=9"],
        "pass --image-size or --set data.image_s",
    ),
    "image size 0": (["--image-size", "0"], "data.image_size = '0': input should be greater than or equal to 1"),
    "image too small": (["--model", "vgg16"], "16x16 is too small; use --image-size 32 or more"),
    "evaluator too deep": (["--set", "evaluator.model=vgg11"], "16x16 is too small; use --image-size 32 or more"),
    "unknown evaluator": (["--set", "evaluator.model=vgg7"], "unknown model 'vgg7'"),
    "seed and seeds": (["--seed", "0", "--seeds", "0,1"], "pass --seed or --seeds, not both"),
    "seeds of words": (["--seeds", "a,b"], "--seeds a,b: write whole numbers with commas, for example --seeds 0,1,2"),
    "empty seeds": (["--seeds", ""], "write whole numbers with commas"),
    "half a seed": (["--seeds", "0,"], "write whole numbers with commas"),
    "the same seed twice": (["--seeds", "0,1,0"], "each given once; not 0,1,0"),
    "a seed below 0": (["--seed", "-1"], "a seed is a whole number from 0"),
    "a seed too large": (["--seed", str(SEED_LIMIT)], "a seed is a whole number from 0"),
    "no such device": (["--device", "gpu"], "--device gpu is not a device; use auto, cpu, cuda or cuda:0"),
    "empty device": (["--device", ""], "is not a device"),
    "unsupported device": (["--device", "meta"], "--device meta is not supported"),
    "far device": (["--device", "cuda:99"], "--device cuda:99: torch sees"),
    "no threads": (["--threads", "0"], "--threads 0: at least 1"),
    "missing data": (["--dataset", "cifar10", "--data-root", "/gone"], "--data-root /gone is not a folder"),
    "no weights": (["--set", "measure.inception_weights=/gone"], "cannot read the Inception weights /gone"),
    "unusable store": (["--store", "/dev/null/store"], "cannot write to the store /dev/null/store: Not a directory"),
    "out is a file": (["--out", "/dev/null"], "--out /dev/null is not an empty folder"),
    "out below a file": (["--out", "/dev/null/run"], "--out /dev/null/run cannot be written: Not a directory"),
    "out too long": (["--out", "x" * 300], "cannot be written: File name too long"),
    "unknown option": (["--bogus"], "No such option: --bogus"),
    "option without value": (["--dataset"], "'--dataset' requires an argument"),
    "seed of words": (["--seed", "one"], "Invalid value for '--seed'"),
    "unknown command": (["lst"], "No such command 'lst'"),
    "unknown option of list": (["list", "--jsn"], "No such option: --jsn"),
}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in, with temporary files, data and store under it too."""
    work = tmp_path / "work"
    for folder in (work, tmp_path / "temporary"):
        folder.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("AUDIT_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("AUDIT_DATA", raising=False)
    return work


def _left(elsewhere: Path) -> list[Path]:
    return [path for path in elsewhere.parent.rglob("*") if path.name not in ("work", "temporary", "store")]


def one_line(text: str) -> str:
    """The only line of ``text``."""
    assert text.endswith("\n")
    (line,) = text.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("case", sorted(BAD_INPUT))
def test_bad_input_is_one_line_and_exit_code_2_and_leaves_nothing(case: str, command: Command, elsewhere: Path) -> None:
    given, message = BAD_INPUT[case]
    defense = [] if "--defense" in given or case == "no defense" else ["--defense", "data-free-conversion"]
    outcome = command(*defense, *given)
    assert outcome.code == 2
    assert message in one_line(outcome.err)
    assert outcome.out == ""
    assert _left(elsewhere) == []


@pytest.mark.parametrize("given", [["--bogus"], ["--defense", "privatsnn"]])
def test_the_exit_code_of_the_process_is_2_and_standard_output_is_empty(given: list[str], elsewhere: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "audit", *given], cwd=ROOT, capture_output=True, text=True, check=False, timeout=DEADLINE
    )
    assert done.returncode == 2
    assert one_line(done.stderr)
    assert done.stdout == ""


def test_a_bad_checkpoint_interval_is_told_before_anything_is_made(
    command: Command, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_CHECKPOINT_SECONDS", "often")
    outcome = command("--defense", "none")
    assert outcome.code == 2
    assert "AUDIT_CHECKPOINT_SECONDS=often: a number of seconds, 0 or more" in one_line(outcome.err)
    assert _left(elsewhere) == []


def test_json_is_not_coloured_where_a_terminal_is_forced(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.cli.out_console", Console(force_terminal=True, color_system="truecolor"))
    assert "defenses" in json.loads(command("list", "--json").out)


def test_help_is_no_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "audit", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    for option in ("--defense", "--attack", "--seeds", "--set", "--out", "--device", "--data-root"):
        assert option in done.stdout


def test_a_gpu_that_is_not_there_is_refused(command: Command, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    outcome = command("--defense", "none", "--device", "cuda")
    assert outcome.code == 2
    assert "--device cuda: torch sees 0 CUDA devices here; use --device cpu" in one_line(outcome.err)


def test_a_message_of_several_lines_is_put_on_one(command: Command, elsewhere: Path) -> None:
    outcome = command("--defense", "no\nsuch")
    assert outcome.code == 2
    assert "unknown defense 'no such'" in one_line(outcome.err)


def test_markup_in_the_input_is_shown_as_it_is(command: Command, elsewhere: Path) -> None:
    assert "[red]x[/red]" in one_line(command("--defense", "[red]x[/red]").err)


@pytest.mark.parametrize(("name", "message"), [("record.json", "already holds a run"), ("notes", "is not an empty")])
def test_a_folder_that_holds_something_is_left_alone(
    name: str, message: str, command: Command, elsewhere: Path
) -> None:
    folder = elsewhere / "mine"
    folder.mkdir()
    (folder / name).write_text("keep me")
    outcome = command("--defense", "none", "--out", folder)
    assert outcome.code == 2
    assert message in one_line(outcome.err)
    assert _left(elsewhere) == [folder, folder / name]
    assert (folder / name).read_text() == "keep me"


@pytest.mark.parametrize("what", ["out", "store"])
def test_a_read_only_place_is_refused_before_anything_is_trained(
    what: str, command: Command, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tests may run as root, to whom no folder is read-only.
    place, mkdir, temporary = elsewhere / "read-only", os.mkdir, tempfile.TemporaryFile
    place.mkdir()

    def refuse(path: object, *_: object) -> None:
        if str(path).startswith(str(place)):
            raise OSError(30, "Read-only file system", str(path))

    def no_mkdir(path: str, *rest: int, **named: int) -> None:
        refuse(path)
        mkdir(path, *rest, **named)

    def no_file(*args: object, **named: object) -> object:
        refuse(named.get("dir"))
        return temporary(*args, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "mkdir", no_mkdir)
    monkeypatch.setattr(tempfile, "TemporaryFile", no_file)
    monkeypatch.setattr("audit.request.prepare_data", lambda *_: pytest.fail("it went on"))
    outcome = command("--defense", "none", f"--{what}", place / "x" if what == "out" else place)
    assert outcome.code == 2
    assert "Read-only file system" in one_line(outcome.err)
    assert _left(elsewhere) == [place]


def test_an_unusable_store_is_found_out_before_the_data_are_read(
    command: Command, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.request.prepare_data", lambda *_: pytest.fail("it went on"))
    (elsewhere / "file").write_text("")
    outcome = command("--defense", "none", "--store", elsewhere / "file")
    assert outcome.code == 2
    assert "cannot write to the store" in one_line(outcome.err)


def test_half_unpacked_data_end_the_command_and_not_in_a_traceback(command: Command, elsewhere: Path) -> None:
    root = elsewhere / "data"
    (root / "train" / "cat").mkdir(parents=True)
    before = _left(elsewhere)
    outcome = command("--defense", "none", "--dataset", "folder", "--data-root", root, "--out", elsewhere / "out")
    assert outcome.code == 2
    assert "expected train/<class>" in one_line(outcome.err)
    assert _left(elsewhere) == before


def test_thresholds_that_would_be_zero_are_an_error_with_advice(
    command: Command, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.spiking.network.SpikingNetwork.current_into", lambda self, name, x, g: x * 0)
    given = ["--defense", "data-free-conversion", "--out", elsewhere / "out", *tiny_options("defense.epochs")]
    outcome = command(*given)
    assert outcome.code == 2
    assert "its threshold would be 0; use more time-steps or more images" in " ".join(outcome.err.split())
    assert not (elsewhere / "out").exists()


def test_the_list_holds_everything_that_is_registered_with_a_line_each(command: Command) -> None:
    outcome = command("list", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    listing = json.loads(outcome.out)
    assert {kind: sorted(entries) for kind, entries in listing.items()} == {
        "defenses": DEFENSES.names(),
        "attacks": ATTACKS.names(),
        "datasets": sorted(DATASETS),
        "networks": sorted(NETWORKS),
        "suites": sorted(SUITES),
        "tracks": sorted(TRACKS),
        "profiles": sorted(PROFILES),
    }
    for entries in listing.values():
        for summary in entries.values():
            assert summary.strip()
            assert "\n" not in summary


def test_the_list_of_settings_holds_every_field_and_its_default(command: Command) -> None:
    settings = json.loads(command("list", "--settings", "--json").out)["settings"]
    assert settings["privatesnn.distillation"] == "0.7"
    assert settings["data.normalisation"] == "signed"
    assert {f"reconversion.{name}" for name in ATTACKS.get("reconversion").fields} <= set(settings)


def test_the_list_is_readable_too(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.cli.out_console", Console(width=300))
    outcome = command("list")
    assert (outcome.code, outcome.err) == (0, "")
    shown = outcome.out.splitlines()
    summaries = {name: registry.get(name).summary for registry in (DEFENSES, ATTACKS) for name in registry.names()}
    missing = {n: summary for n, summary in summaries.items() if not any(n in s and summary in s for s in shown)}
    assert not missing, outcome.out


def _wait_for(condition: Path, process: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + DEADLINE
    while not condition.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the run did not get to its attack"
        time.sleep(0.05)


def test_ctrl_c_says_what_is_kept_and_the_same_command_goes_on_from_there(tmp_path: Path) -> None:
    attack = tmp_path / "slow.py"
    attack.write_text(SLOW_ATTACK)
    out, store = tmp_path / "out" / "run", tmp_path / "store"
    settings = tiny_options("defense.epochs", attacks=["reconversion"])
    arguments = [sys.executable, "-m", "audit", "--defense", "data-free-conversion"]
    arguments += ["--attack", f"reconversion,{attack}", "--out", str(out), "--store", str(store), *settings]
    process = subprocess.Popen(
        arguments,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts the tests in the background would have it ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        _wait_for(attack.with_suffix(".begun"), process)
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
    assert process.returncode == 130
    assert printed == ""
    text = " ".join(said.split())
    assert f"Finished stages are kept in {store}: the same command goes on from there." in text
    assert f"Nothing was written to {out}." in text
    assert "Traceback" not in said
    assert not out.parent.exists()
    assert not list(store.rglob(".writing-*"))

    again = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False, timeout=DEADLINE)
    assert again.returncode == 0, again.stderr
    stages = Record.read(out / "record.json").stages
    assert {stage.name.partition(" on ")[0] for stage in stages if stage.cached and "untrained" not in stage.name} == {
        "teacher",
        "evaluator",
        "second evaluator",
        "target: data-free-conversion",
        "evaluation: data-free-conversion",
        "attack: reconversion",
        "observation: reconversion",
        "measurements: reconversion",
    }
    made = [stage.name.partition(" on ")[0] for stage in stages if not stage.cached]
    assert made == ["attack: slow", "attack: slow", "gradients: data-free-conversion"]


def test_the_version_is_printed(command: Command) -> None:
    done = command("--version")
    assert (done.code, done.out) == (0, f"snn-privacy-audit {audit.__version__}\n")


def test_a_run_tells_a_program_what_it_found_and_what_it_did(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curves, log = tmp_path / "curves", tmp_path / "log.jsonl"
    monkeypatch.setenv("AUDIT_TENSORBOARD", str(curves))
    given = ["--defense", "data-free-conversion", "--attack", "adaptive-reconversion", "--store", tmp_path / "store"]
    options = tiny_options("defense.synthe", "defense.epochs", attacks=["adaptive-reconversion"])
    done = command(*given, "--out", tmp_path / "run", *options, "--json", "--quiet", "--log", log)
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    record = Record.read(Path(told["record"]))
    assert told["stages"]["made"] == sum(not line.cached for line in record.stages)
    assert told["tables"]["accuracy"][0]
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [events[0]["message"], events[-1]["message"]] == ["begins", "done"]
    stages = {event["key"]: event for event in events if event["message"] == "stage"}
    assert set(stages) == {line.key for line in record.stages}
    made = [line for line in record.stages if not line.cached]
    assert all(stages[line.key]["wall_seconds"] == line.wall_seconds for line in made)
    assert all(line.peak_memory_bytes is None or line.peak_memory_bytes > 2**26 for line in made)
    folders = {path.parent.name.partition(" seed")[0] for path in curves.rglob("events*")}
    assert {"teacher", "attack adaptive-reconversion on data-free-conversion"} <= folders
