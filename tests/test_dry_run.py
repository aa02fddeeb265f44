"""What would be made is what is made then."""

from pathlib import Path

from audit.costs import Costs
from audit.dry_run import look
from audit.monitor import SilentMonitor
from audit.run import run
from audit.store import Store
from tests.conftest import Command, tiny_options, tiny_request

DC = "data-free-conversion"


def test_before_a_run_everything_is_to_make_and_after_it_nothing(tmp_path: Path) -> None:
    request, store = tiny_request(f"none,{DC}", "direct-inversion,membership-inference"), Store(tmp_path / "store")
    before = {line.name: line for line in look(request, store)}
    assert not (tmp_path / "store").exists()
    assert sum(line.stored for line in before.values()) == 0
    assert {name: line.missing for name, line in before.items()} == {
        "teacher": 1,
        "evaluator": 1,
        "second evaluator": 1,
        "target": 2,
        "direct-inversion": 2,
        "direct-inversion, on untrained twins": 2,
        "membership-inference": 2,
    }
    assert all(line.seconds is None for line in before.values())
    run(request, store, SilentMonitor())
    after = look(request, store)
    assert sum(line.missing for line in after) == 0
    assert sum(line.stored for line in after) == sum(line.missing for line in before.values())


def test_of_a_new_defense_only_its_own_stages_are_to_make_and_their_time_is_guessed(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    run(tiny_request(DC), store, SilentMonitor())
    lines = {line.name: line for line in look(tiny_request(f"{DC},conversion"), store)}
    assert {name: (line.stored, line.missing) for name, line in lines.items()} == {
        "teacher": (1, 0),
        "evaluator": (1, 0),
        "second evaluator": (1, 0),
        "target": (1, 1),
        "reconversion": (1, 1),
        # Its twin may be another one, which is not known before it is made.
        "reconversion, on untrained twins": (1, 1),
    }
    assert lines["reconversion"].seconds
    assert lines["teacher"].seconds == 0


def test_the_command_prints_it_and_makes_nothing(command: Command, tmp_path: Path) -> None:
    options = tiny_options("defense.", attacks=["reconversion"])
    given = ("--defense", "none", "--attack", "reconversion", "--store", tmp_path / "store", "--out", tmp_path / "run")
    shown = command(*given, "--dry-run", *options)
    assert (shown.code, shown.err) == (0, "")
    assert "0 in " in shown.out
    assert "6 to make: about 0 s in 1 process, and what was never made here at this scale" in " ".join(
        shown.out.split()
    )
    assert list(tmp_path.iterdir()) == []
    assert command(*given, *options).code == 0
    assert "6 in " in command(*given, "--dry-run", *options).out
    assert "nothing to make" in command(*given, "--dry-run", *options).out


def test_a_track_has_no_dry_run(command: Command) -> None:
    refused = command("--track", "robustness", "--dry-run")
    assert refused.code == 2
    assert "--dry-run is of one run" in refused.err


def test_a_guess_is_the_median_of_the_nearest_that_is_known(tmp_path: Path) -> None:
    costs = Costs(tmp_path / "costs.jsonl")
    assert costs.of("digits")("attack", "reconversion on x") is None
    for seconds in (1, 2, 90):
        costs.add("digits", "attack", "reconversion on x", seconds)
    costs.add("digits", "attack", "direct-inversion on x", 50)
    costs.add("cifar10", "attack", "reconversion on x", 1000)
    costs.path.open("a").write("not a line\n[1, 2]\n")
    guess = costs.of("digits")
    assert guess("attack", "reconversion on x") == guess("attack", "reconversion on y") == 2
    assert guess("attack", "scale-search on x") == 26
    assert guess("teacher", "") is None


def test_costs_that_cannot_be_written_cost_nothing(tmp_path: Path) -> None:
    costs = Costs(tmp_path / "missing" / "costs.jsonl")
    costs.add("digits", "attack", "x", 1.0)
    assert costs.of("digits")("attack", "x") is None
