"""A track: every coding by every number of bits, each place with a run or with the reason that it has none."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from torch import nn

from audit.cli_track import asked_by
from audit.errors import AuditError
from audit.monitor import SilentMonitor
from audit.records import Record
from audit.registry import DEFENSES, register_defense
from audit.request import Request
from audit.run import Finished, run
from audit.store import Store
from audit.suites import TRACKS
from audit.tracks import carry_out, chosen, plan
from defenses.conversion import RealDataConversion
from tests.conftest import Command, tiny_options, tiny_request

TRACK = TRACKS["robustness"]
SETTINGS = {"attack__images": "10", "evasion__steps": "1", "evasion__widths": "2", "evasion__shapes": "arctan"}


@dataclass(frozen=True)
class Coarse(RealDataConversion):
    """The conversion with ``bits`` noted, and refused at 1."""

    bits: int | None = None

    def protect(self, teacher: nn.Sequential, context):  # type: ignore[no-untyped-def]
        if self.bits == 1:
            raise AuditError("a layer received no positive current")
        context.notes["bits per weight"] = self.bits or 32
        return super().protect(teacher, context)


@pytest.fixture(autouse=True)
def plain_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the plots, which take longer than the rest together."""
    monkeypatch.setattr("audit.output.write_report", lambda record, tables, pictures, path: path.write_text("report"))


def base(defense: str = "conversion", attack: str = "reconversion", **changed: str) -> Request:
    return tiny_request(defense, attack, **changed)


def test_a_grid_has_every_coding_at_every_number_of_bits_each_in_a_folder_of_its_own(tmp_path: Path) -> None:
    register_defense("coarse", Coarse)
    planned = plan("robustness", base("coarse"), "coarse", (), tmp_path)
    assert len(planned.points) == len(planned.places) == 20
    assert len({point.folder for point in planned.points}) == 20
    names = [point.folder.name for point in planned.points]
    assert names[:2] == ["direct-32-bit", "direct-8-bit"]
    passed = planned.points[1].request.settings.passed
    own = {"data.normalisation": "unit", "defense.time_steps": "16"}
    assert passed == {**own, "defense.coding": "direct", "coarse.bits": "8"}
    assert planned.points[0].request.settings.passed["coarse.bits"] == "none"
    assert all([c.name for c in point.request.compared] == ["coarse"] for point in planned.points)


def test_a_place_without_a_quantised_network_has_that_as_its_reason(tmp_path: Path) -> None:
    planned = plan("robustness", base(), "conversion", (), tmp_path)
    assert [(p.coding, p.bits) for p in planned.absent] == [(c, b) for c in TRACK.codings for b in TRACK.bits if b]
    assert {p.reason for p in planned.absent} == {"conversion: no setting 'coding' beside one 'bits'"}
    assert [point.place.bits for point in planned.points] == [None] * 4


def test_without_a_defense_the_track_takes_the_first_of_its_own_that_is_registered() -> None:
    DEFENSES.components = {k: v for k, v in DEFENSES.components.items() if not k.startswith("quantized")}
    before, after = chosen(TRACK, "")
    assert [c.name for c in before] == ["conversion"]
    assert after == []
    register_defense("quantized", Coarse)
    before, after = chosen(TRACK, "")
    assert [c.name for c in (*before, *after)] == ["quantized", "quantized"]


def test_the_tracks_own_grid_has_a_run_at_every_place(tmp_path: Path) -> None:
    planned = plan("robustness", base("quantized", "robustness-v1"), "", (), tmp_path)
    assert planned.absent == ()
    ran = {(p.place.coding, p.place.bits): [c.name for c in p.request.compared] for p in planned.points}
    assert ran == {(coding, bits): ["quantized"] for coding in TRACK.codings for bits in TRACK.bits}
    built = [p.request.settings.build(c) for p in planned.points for c in p.request.compared]
    assert [defense.bits for defense in built[:5]] == [None, 8, 4, 2, 1]
    assert {defense.coding for defense in built} == set(TRACK.codings)


def test_an_option_for_one_of_the_defenses_holds_where_that_one_runs(tmp_path: Path) -> None:
    request = base("surrogate-training,quantized", "robustness-v1", quantized__tuning_epochs="3")
    planned = plan("robustness", request, "surrogate-training,quantized", ["coding=direct"], tmp_path)
    with_it = [p.place.bits for p in planned.points if "quantized.tuning_epochs" in p.request.settings.passed]
    assert with_it == [None, 8, 4, 2, 1]
    without = [[c.name for c in p.request.compared] for p in planned.points]
    assert without == [["surrogate-training", "quantized"], *[["quantized"]] * 4]


def test_a_coding_that_a_defense_does_not_take_is_a_reason_and_no_error(tmp_path: Path) -> None:
    planned = plan("robustness", base("surrogate-training"), "surrogate-training", (), tmp_path)
    refused = [place for place in planned.absent if place.coding in ("phase", "latency") and place.bits is None]
    assert len(refused) == 2
    assert all("coding" in place.reason for place in refused)


def test_another_axis_multiplies_the_grid_and_is_said_in_titles_and_folders(tmp_path: Path) -> None:
    planned = plan("robustness", base(), "conversion", ["threshold_scale=0.6,0.8"], tmp_path)
    assert len(planned.points) == 8
    assert planned.points[0].title == "direct coding, full precision, threshold_scale 0.6"
    assert planned.points[0].folder.name == "direct-32-bit-threshold_scale-0.6"
    assert planned.points[4].request.settings.passed["defense.threshold_scale"] == "0.8"


def test_the_tracks_own_axes_are_narrowed_and_several_are_added(tmp_path: Path) -> None:
    overs = ["bits=none,2", "coding=phase", "firing_threshold=0.5,1", "leak=1,0.9"]
    planned = plan("robustness", base("quantized", "robustness-v1"), "", overs, tmp_path)
    assert len(planned.points) == len(planned.places) == 8
    assert [(p.place.bits, p.place.words) for p in planned.points[:3]] == [
        (None, {"firing_threshold": "0.5", "leak": "1"}),
        (2, {"firing_threshold": "0.5", "leak": "1"}),
        (None, {"firing_threshold": "0.5", "leak": "0.9"}),
    ]
    assert {p.place.coding for p in planned.points} == {"phase"}
    assert planned.points[0].folder.name == "phase-32-bit-firing_threshold-0.5-leak-1"
    assert planned.points[7].request.settings.passed["defense.leak"] == "0.9"


@pytest.mark.parametrize(
    ("overs", "said"),
    [
        (["bits=8,3"], "unknown bits of the track '3'; known: 1, 2, 4, 8, none"),
        (["coding=fase"], "unknown coding of the track 'fase'; did you mean 'phase'"),
        (["bits=8,8"], "--over bits=8,8: given twice"),
        (["leak=1,0.9", "leak=0.8"], "--over leak=0.8: given twice"),
    ],
)
def test_an_axis_that_makes_no_grid_is_refused(overs: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=said):
        plan("robustness", base("quantized", "robustness-v1"), "", overs, tmp_path)


def test_settings_of_a_profile_give_way_to_those_that_are_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    track = replace(TRACK, by_profile={"smoke": {"attack.images": "7", "defense.leak": "0.7", "evasion.steps": "3"}})
    monkeypatch.setattr("audit.tracks.TRACKS", {"robustness": track})
    request = base("quantized", "robustness-v1", evasion__steps="4")
    planned = plan("robustness", request, "", ["leak=1,0.9"], tmp_path)
    passed = planned.points[0].request.settings.passed
    assert (passed["attack.images"], passed["evasion.steps"], passed["defense.leak"]) == ("7", "4", "1")


@pytest.mark.parametrize("key", ["defense.coding", "conversion.coding", "data.normalisation"])
def test_what_the_grid_goes_over_cannot_be_passed(key: str, tmp_path: Path) -> None:
    value = "signed" if key.startswith("data") else "direct"
    request = base()
    passed = replace(request.settings, passed={key: value})
    with pytest.raises(AuditError, match=f"--set {key}: the track goes over it"):
        plan("robustness", replace(request, settings=passed), "conversion", (), tmp_path)


def test_an_unknown_track_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="unknown track 'robustnes'; did you mean 'robustness'"):
        plan("robustnes", base(), "conversion", (), tmp_path)


def test_a_run_that_fails_is_a_place_with_its_reason_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_defense("coarse", Coarse)
    monkeypatch.setattr("audit.tracks.TRACKS", {"robustness": replace(TRACK, codings=("direct",), bits=(None, 1, 2))})
    request = base("coarse", "evasion", **SETTINGS)
    planned = plan("robustness", request, "coarse", "", tmp_path / "track")
    store = Store(tmp_path / "store")
    records, absent = carry_out(planned, store, SilentMonitor())
    assert [r.results[0].defenses[0].notes["bits per weight"] for r in records] == [32, 2]
    assert [(p.bits, p.reason) for p in absent] == [(1, "a layer received no positive current")]
    assert [size.value for r in records if (size := r.results[0].defenses[0].size)] == [
        32 * (n := records[0].results[0].defenses[0].size.n),  # type: ignore[union-attr]
        2 * n,
    ]
    again: list[str] = []

    def counted(request: Request, *_: object) -> Finished:
        again.append(request.command)
        return run(request, store, SilentMonitor())

    monkeypatch.setattr("audit.series.run", counted)
    second, _ = carry_out(planned, store, SilentMonitor())
    assert [record.text() for record in second] == [record.text() for record in records]
    assert len(again) == 1


def test_the_command_runs_the_track_and_writes_its_table_in_every_format(
    command: Command, tmp_path: Path, tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"robustness": replace(TRACK, codings=("direct", "phase"), bits=(None, 8))}
    monkeypatch.setattr("audit.tracks.TRACKS", small)
    out = tmp_path / "track"
    options = tiny_options("defense.synth", "defense.epochs", "attack.images_per_class", attacks=())
    evade = [f"--set={key.replace('__', '.')}={value}" for key, value in SETTINGS.items()]
    given = ("--track", "robustness", "--defense", "conversion", "--dataset", "digits", "--attack", "evasion")
    done = command(*given, "--store", tiny_store, "--out", out, *options, *evade)
    assert done.code == 0, done.err
    written = {f"robustness.{format}" for format in ("csv", "html", "md", "tex")} | {"track.json"}
    assert {path.name for path in out.iterdir()} == {"direct-32-bit", "phase-32-bit"} | written
    lines = list(csv.DictReader((out / "robustness.csv").open(encoding="utf-8")))
    assert [(line["coding"], line["network"]) for line in lines] == [
        ("direct", "conversion"), ("phase", "conversion"), ("direct", "none"), ("phase", "none"),
    ]  # fmt: skip
    record = Record.read(out / "phase-32-bit" / "record.json")
    assert record.settings_passed["defense.coding"] == "phase"
    assert record.results[0].controls == ()
    assert record.command.startswith("python -m audit --track")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--over", "leak=0.5"), "--over is an axis of a track"),
        (("--track", "speed"), "unknown track 'speed'"),
        (("--track", "robustness", "--over", "nothing=1"), "unknown setting 'nothing'"),
    ],
)
def test_bad_input_is_exit_code_2_and_one_line(command: Command, given: tuple[str, ...], said: str) -> None:
    done = command(*given)
    assert done.code == 2
    assert said in " ".join(done.err.split())


def test_all_attacks_of_a_track_are_its_suite_among_others_too() -> None:
    assert asked_by("robustness", "", "all")[1] == "robustness-v1"
    assert asked_by("robustness", "", "all,reconversion")[1] == "robustness-v1,reconversion"
