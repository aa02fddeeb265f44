"""Whatever a submission claims, somebody with its archive finds out, or it stands on the list of what is only claimed.

Every archive here has a manifest that was made to fit: see test_archive for those that have not.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from audit.errors import AuditError
from audit.metrics.statistics import proportion
from audit.records import Record
from leaderboards.archive import RECORD, SCORES, Manifest
from leaderboards.entries import MOST_WEIGHTS, add
from leaderboards.verification import UNFORESEEN, Opened, Unchecked, Verdict, checks, verify, verify_row
from tests.conftest import Outcome
from tests.leaderboards.hostile import (
    TARGET,
    Contents,
    Place,
    altered,
    dropped,
    honest,
    leaves,
    named,
    objection,
    put,
    remember,
)

# What nothing in the archive contradicts, and what it is about. --rerun attacks or all makes most of it again.
CLAIMS = {
    r"(created|command|feature_extractor)": "text about the run",
    r"environment/.*": "where it was made",
    r"stages/.*": "what was computed, and what it took",
    r".*/notes/.*": "what attacks and defenses say of themselves",
    r"results/\d+/(teacher|evaluator|second_evaluator)/hash": "networks that are not submitted",
    r"results/\d+/defenses/data-free-conversion/(target|layers)_hash": "the undefended network is not submitted either",
    r"results/\d+/defenses/data-free-conversion/size/(value|n)": "the undefended network is not submitted either",
    r".*/(attacks|untrained)/[^/]+/images_hash": "images that are not submitted; their raw scores are",
    r".*/energy/layers/[1-9]\d*/input_density": "of hidden layers; their operations are counted beside it",
    r".*/gradients/(zero|agreement|gain|train_eval)": "from a backward pass; its flags follow from it",
    r".*/weight-recovery/measurements/2/(value|reason)": "a recovered network is not submitted",
    r".*/weight-recovery/measurements/3/value": "a recovered network is not submitted",
    r".*/membership-inference/(status|reason)": "why an attack brought nothing",
}
# What can be left out besides: measured on images that are not submitted; passed, though it is so anyway.
OMISSIONS = {
    r".*/flags/\d+": "did-not-beat-its-start",
    r"settings_passed/.*images_per_class": "as attack.images_per_class",
}


@pytest.fixture
def good(audited: tuple[Path, Outcome]) -> Contents:
    """A submission that is accepted."""
    return honest(audited[0])


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        remember(patch)
        yield


def states(verdict: Verdict) -> dict[str, str]:
    return {finding.check: finding.state for finding in verdict.findings}


def test_an_honest_submission_passes_every_check(good: Contents, tmp_path: Path) -> None:
    verdict = verify(good.write(tmp_path / "a.zip"))
    assert verdict.accepted, verdict.text()
    left = {check for check, state in states(verdict).items() if state == "not checked"}
    assert left <= {"version"}
    leaks = [a.leakage.value for d in good.record.results[0].defenses for a in d.attacks if a.leakage]
    assert len(leaks) == 22
    assert all(value is not None and 0.5 < value < 0.95 for value in leaks)


def test_a_measurement_that_another_machine_rounded_otherwise_is_the_same(good: Contents, tmp_path: Path) -> None:
    path = ("results", 0, "controls", 0, "measurements", 0, "value")
    value = good.record.results[0].controls[0].measurements[0].value
    assert value
    assert objection(good.at(path, value * (1 + 1e-9)), tmp_path) == ""
    assert "raw scores: seed 0/held-out real images: FD" in objection(good.at(path, value * (1 + 1e-5)), tmp_path)


D = ("results", 0, "defenses", 1)
A = (*D, "attacks", 0)
ALTERED: dict[str, tuple[Place, Any, str]] = {
    "unknown suite": (("suites",), ["class-leakage-v9"], "row: the record names the suite 'class-leakage-v9'"),
    "no suite": (("suites",), [], "row: no suite was run as a whole"),
    "fewer suites": (("suites",), ["paper-v1"], "suite: seed 0: the attacks on data-free-conversion are those of"),
    "suite less an attack": ((*A, "attack"), "mine", "suite: seed 0: privatesnn was not attacked by reconversion"),
    "an attack of another budget": ((*A, "settings", "updates"), 1, "settings: seed 0, reconversion on privatesnn: "),
    "all attacks of another budget": (("settings_passed", "reconversion.updates"), "1", "settings: seed 0, reconv"),
    "another profile": (("profile",), "paper", "settings: "),
    "unknown profile": (("profile",), "mine", "settings: the profile 'mine' is unknown here"),
    "an option of nothing": (("settings_passed", "teacher.hocus"), "1", "settings: unknown setting 'teacher.hocus'"),
    "an option of no form": (("settings_passed", "a.b.c"), "1", "settings: settings_passed: 'a.b.c' is no setting"),
    "leakage": ((*A, "leakage", "value"), 0.01, r"plausibility: .*reconversion/leakage: 0.01 is not 0\.[5-9]"),
    "leakage, consistently": ((*A, "leakage"), "LOW", "verdicts: seed 0: leakage or flags of privatesnn"),
    "no leakage": ((*A, "leakage"), None, "verdicts: seed 0: leakage or flags of privatesnn"),
    "flag": ((*D, "flags"), ["masked-gradients"], "verdicts: seed 0: leakage or flags of privatesnn"),
    "leakage of the twin": ((*D, "untrained", 0, "leakage"), "LOW", "plausibility: .*what leakage is counted"),
    "measurement": ((*A, "measurements", 0, "value"), 9.0, "(plausibility|raw scores): .*reconversion"),
    "recognised less": ((*A, "measurements", 2, "value"), 0.05, "plausibility: .*0.05 lies outside its interval"),
    "no measurements": ((*A, "measurements"), [], "plausibility: .*reconversion: it is 'ok', but"),
    "measurements of no scores": ((*A, "scores_hash"), None, "plausibility: .*evidence of 'images' without raw scores"),
    "as if it were a recovery": ((*A, "evidence"), "weights", "settings: .*it brings 'images' back"),
    "as if it had no weights": ((*A, "access"), "labels", "settings: .*is handed 'weights'"),
    "as if it had failed": ((*A, "status"), "failed", "plausibility: .*it is 'failed', which has a reason and nothing"),
    "more images": ((*A, "images"), 200, "plausibility: .*reconversion: 200 images, not 20"),
    "accuracy": ((*D, "accuracy", "value"), 0.98, "plausibility: .*accuracy: 0.98 lies outside its"),
    "accuracy between": ((*D, "accuracy", "value"), 0.49, "plausibility: .*accuracy: 0.49 of 60 images is no whole"),
    "an interval": ((*D, "accuracy", "low"), 0.4, r"plausibility: .*the Wilson interval of \d+ in 60 is \[0\.\d+, 0"),
    "accuracy on fewer": ((*D, "accuracy", "n"), 30, "plausibility: "),
    "accuracy at last": ((*D, "accuracy_over_time", 2, 0), 15, "plausibility: .*accuracy over time is measured at"),
    "energy": ((*D, "energy", "measurements", 0, "value"), 50.0, "plausibility: .*energy ratio.* is claimed as 50.0"),
    "fewer operations": ((*D, "energy", "layers", 0, "accumulates"), 1.0, "plausibility: .*the operations of its"),
    "a larger ANN": ((*D, "energy", "layers", 0, "ann_multiply_accumulates"), 1e9, "plausibility: .*energy"),
    "a smaller teacher": (("results", 0, "teacher", "parameters"), 5, "settings: seed 0: the teacher: 5 parameters"),
    "a layer that breaks a figure": ((*D, "energy", "layers", 0, "name"), "a\x0b", r"plausibility: .*called 'a\\x0b'"),
    "a layer of markup": ((*D, "energy", "layers", 0, "name"), "<b>", "plausibility: .*a layer is called '<b>'"),
    "time-steps": ((*D, "time_steps"), 4, "plausibility: "),
    "another defense's settings": ((*D, "settings", "epochs"), 0, "settings: seed 0, privatesnn: .*epochs = 0"),
    "access to data": ((*D, "data_access"), "training-images", "settings: seed 0, privatesnn: .*training-images"),
    "healthy gradients": ((*D, "gradients", "gain"), 0.0, r"plausibility: .*the gradient's flags are \[\]"),
    "evaluators that see nothing": (("results", 0, "evaluator", "accuracy"), "BLIND", "raw scores: .*do not agree"),
    "one evaluator": (("results", 0, "second_evaluator"), None, "raw scores: .*not the features and logits"),
    "other split": (("dataset", "split_hash"), "0" * 64, "data split: the split of digits here is"),
    "other classes": (("dataset", "classes", 0), "ten", "data split: the classes of digits"),
    "other controls": (("results", 0, "controls", 1, "images_hash"), "0" * 64, "data split: .*uniform noise are other"),
    "unknown data": (("dataset", "name"), "mnist", "row: the data set 'mnist' is unknown here"),
    "data in another place": (("dataset", "name"), "../../etc", "row: there is no place for a row with the name"),
    "images without end": (("dataset", "image_shape"), [1, 10**9, 10**9], "settings: .*is no network that is known"),
    "another author": (("submission", "authors"), ["C"], "row: the record and the manifest do not name the same"),
    "nobody": (("submission",), None, "row: the record and the manifest do not name the same"),
    "a script": (("submission", "paper"), "javascript:x", "archive: record.json is no record.*submission.paper"),
    "another target": ((*D, "target_hash"), "0" * 64, "weights: the target of seed 0 does not have the hash"),
    "another defense": ((*D, "defense"), "mine", "weights: targets/privatesnn-seed0.safetensors is the target of no"),
    "the name of an attack": ((*D, "defense"), "membership-inference", "row: 'membership-inference' is the name of an"),
    "the name of settings": ((*D, "defense"), "measure", "row: 'measure' is the name of an attack or of a group"),
    "a defense in another place": ((*D, "defense"), "../mine", "row: there is no place for a row with the name"),
    "without a control": (("results", 0, "defenses", 0, "defense"), "none", "row: seed 0 has no result of data-free"),
    "two that were asked for": (("results", 0, "defenses", 0, "requested"), True, "row: a row is about one defense"),
    "another seed": (("results", 0, "seed"), 7, r"weights: there are targets of the seeds \[0\], and results of \[7\]"),
    "another schema": (("schema_version",), 3, "archive: record.json is no record of schema 2"),
    "settings of another kind": ((*A, "settings", "images_per_class"), [], "settings: "),
    "no groups": (("settings_resolved",), {}, "settings: settings_resolved: data is not there"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ALTERED)
def test_an_altered_claim_is_refused_for_what_contradicts_it(kind: str, good: Contents, tmp_path: Path) -> None:
    path, value, reason = ALTERED[kind]
    if value == "LOW":
        leakage = good.record.results[0].defenses[1].attacks[0].leakage
        assert leakage is not None
        value = leakage.model_copy(update={"value": 0.01, "unclipped": 0.01}).model_dump()
    elif value == "BLIND":
        value = proportion("accuracy of the evaluator", 6, 60, "higher is better").model_dump()
    assert re.match(f"({reason})", objection(good.at(path, value), tmp_path))


def test_two_seeds_with_one_target_are_no_two_runs(good: Contents, tmp_path: Path) -> None:
    document = good.document
    document["results"].append({**document["results"][0], "seed": 1})
    contents = good.holding({TARGET.replace("seed0", "seed1"): good.files[TARGET]}).claiming(document)
    assert "row: two seeds have the same target" in objection(contents, tmp_path)
    document["results"][1]["seed"] = 0
    assert "row: a seed is in it twice" in objection(contents.claiming(document), tmp_path)
    document = put(document, ("results", 1, "seed"), 1)
    document = put(document, ("results", 1, "defenses", 1, "target_hash"), "0" * 64)
    found = verify(good.claiming(document).write(tmp_path / "b.zip"))
    assert "targets of the seeds [0], and results of [0, 1]" in found.text(), found.text()


def quick_objection(good: Contents, document: Any) -> str:
    """As `objection`, without an archive around the record, and no further than the first refusal."""
    try:
        record = Record.parse(json.dumps(document).encode(), RECORD)
    except AuditError as error:
        return str(error)
    manifest = Manifest.model_validate_json(good.manifest())
    for _, check in checks(None):
        try:
            check(Opened(manifest, dict(good.files), record))
        except Unchecked:
            continue
        except (AuditError, *UNFORESEEN) as error:
            return str(error)
    return ""


@dataclass(frozen=True)
class Leaves:
    """The values of a record by kind, so that hundreds of measurements do not crowd out the rest."""

    document: Any
    kinds: dict[str, list[tuple[str, Place, Any]]]

    def one(self, data: st.DataObject, but: Iterable[str]) -> tuple[str, Place, Any]:
        """One that is on none of the lists."""
        kind = data.draw(st.sampled_from(sorted(self.kinds)))
        found = [leaf for leaf in self.kinds[kind] if not any(re.fullmatch(pattern, leaf[0]) for pattern in but)]
        assume(found)
        return data.draw(st.sampled_from(found))


@pytest.fixture
def values(good: Contents) -> Leaves:
    document, kinds = good.document, {}
    for path, value in leaves(document):
        name = named(document, path)
        kinds.setdefault(re.sub(r"\d+", "*", name), []).append((name, path, value))
    return Leaves(document, kinds)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_altered_value_is_refused_unless_it_is_on_the_list_of_claims(
    good: Contents, values: Leaves, data: st.DataObject
) -> None:
    name, path, value = values.one(data, CLAIMS)
    assert quick_objection(good, put(values.document, path, altered(value))), name


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_value_left_out_is_missed_unless_it_is_on_the_lists(
    good: Contents, values: Leaves, data: st.DataObject
) -> None:
    name, path, _ = values.one(data, [*CLAIMS, *OMISSIONS])
    without = dropped(values.document, path)
    try:
        assume(Record.parse(json.dumps(without).encode(), RECORD) != good.record)
    except AuditError:
        return
    assert quick_objection(good, without), name


@pytest.mark.parametrize("pattern", CLAIMS)
def test_nothing_is_on_the_list_of_claims_that_is_checked(pattern: str, good: Contents, values: Leaves) -> None:
    found = [leaf for kind in values.kinds.values() for leaf in kind if re.fullmatch(pattern, leaf[0])]
    assert any(not quick_objection(good, put(values.document, path, altered(value))) for _, path, value in found)


def test_a_committed_row_is_checked_by_its_record_and_its_raw_scores(good: Contents, tmp_path: Path) -> None:
    entry = add(good.record, good.files[SCORES], None, tmp_path)
    assert verify_row(entry.path).accepted
    assert states(verify_row(entry.path))["weights"] == "not checked"
    text = good.record.text().replace('"rate"', '"late"')
    other = entry.path.with_name("0" * 64 + ".json")
    other.write_text(text, encoding="utf-8")
    assert "is not named after its content" in verify_row(other).findings[0].detail
    entry.scores.unlink()
    assert "cannot read" in verify_row(entry.path).findings[0].detail


def test_a_committed_row_is_checked_by_the_weights_beside_it(good: Contents, tmp_path: Path) -> None:
    entry = add(good.record, good.files[SCORES], None, tmp_path, good.weights)
    assert states(verify_row(entry.path))["weights"] == "passed"
    [path] = entry.weights.values()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    verdict = verify_row(entry.path)
    assert (states(verdict)["weights"], verdict.accepted) == ("refused", False)
    path.write_bytes(content + bytes(MOST_WEIGHTS))
    assert "they belong in its archive" in verify_row(entry.path).text()
    path.write_bytes(content)
    path.with_name(path.name.replace("seed0", "seed00")).write_bytes(content)
    path.write_bytes(b"what nobody looks at")
    assert states(verify_row(entry.path))["weights"] == "refused"
    path.write_bytes(content)
    other = path.with_name(path.name.replace("seed0", "seed1"))
    other.write_bytes(content)
    assert "there are targets of the seeds [0, 1], and results of [0]" in verify_row(entry.path).text()
