import csv
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from audit.errors import AuditError
from audit.records import AttackResult, Measurement, Record
from leaderboards.cells import Number, drop_in_points, formatted, over_seeds
from leaderboards.tables import FORMATS, NAMES, build, plain, readable, render, write_all
from tests.records_factory import (
    FD,
    HOSTILE,
    RECOGNISED,
    accuracy,
    attack,
    defense,
    distance,
    hostile_record,
    record,
    seed_result,
)


def rows_of(record: Record, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(render(build(record, name), "csv"))))


def find(rows: list[dict[str, str]], **wanted: str) -> dict[str, str]:
    [row] = [row for row in rows if all(row[key.replace("_", " ")] == value for key, value in wanted.items())]
    return row


def parts(row: dict[str, str], start: str) -> dict[str, str]:
    """The seven fields of the measured column whose header begins with ``start``."""
    return {key.rpartition(": ")[2]: value for key, value in row.items() if key.startswith(start)}


def cell(record: Record, name: str, first: str, column: str, second: str | None = None) -> Number:
    table = build(record, name)
    place = [c.title for c in table.columns].index(column)
    [row] = [r for r in table.rows if r[0].main == first and (second is None or r[1].main == second)]
    found = row[place]
    assert isinstance(found, Number)
    return found


def test_tables_are_made_without_importing_torch() -> None:
    code = "import sys, leaderboards.tables, leaderboards.readme; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_csv_holds_the_accuracies_of_the_record_unrounded() -> None:
    measured = record()
    rows = rows_of(measured, "accuracy")
    for found in measured.results[0].defenses:
        fields = parts(find(rows, network=found.defense), "test accuracy [fraction; higher is better]")
        assert float(fields["value"]) == found.accuracy.value
        assert (float(fields["low"]), float(fields["high"])) == (found.accuracy.low, found.accuracy.high)
        assert (fields["n"], fields["status"], fields["reason"]) == ("400", "ok", "")
    assert parts(find(rows, network="teacher (vgg5)"), "test accuracy")["value"] == "0.9825"


def test_the_csv_holds_every_leakage_measurement_of_the_record_with_its_status_and_reason() -> None:
    measured = record()
    rows = rows_of(measured, "details")
    sets = [("control", control) for control in measured.results[0].controls]
    sets += [(d.defense, a) for d in measured.results[0].defenses for a in d.attacks]
    assert len(rows) == len(sets)
    for target, images in sets:
        row = find(rows, target=target, images_made_by=images.attack)
        for m in images.measurements:
            fields = parts(row, f"{m.name} [")
            assert fields["value"] == ("" if m.value is None else str(m.value))
            assert (fields["status"], fields["reason"], fields["n"]) == (m.status, m.reason or "", str(m.n))


def test_a_fréchet_distance_on_other_features_has_its_own_column() -> None:
    titles = [column.title for column in build(record(), "leakage").columns]
    assert titles[5:8] == [FD, "FID, Inception", "recognised by the evaluator"]
    assert cell(record(), "leakage", "conversion", "FID, Inception", "reconversion").value is None


def test_headers_say_unit_and_direction() -> None:
    text = render(build(record(), "leakage"), "md")
    assert f"| {FD}<br>(distance, lower = more leaks) |" in text
    assert "recognised by the evaluator<br>(%, higher = more leaks)" in text
    assert "energy ratio ANN/SNN, higher = better" in render(build(record(), "energy"), "md")


def test_a_failed_attack_shows_status_and_reason_and_a_footnote_with_the_reason_in_full() -> None:
    table = build(record(), "leakage")
    failed = cell(record(), "leakage", "privatesnn", FD, "direct-inversion")
    assert failed.main.startswith("failed: the image left")
    [note] = [n.text for n in table.footnotes if n.mark and n.mark == failed.mark]
    assert note.endswith("after update 37 of 149: step size 0.01 without normalisation")


@pytest.mark.parametrize("name", NAMES)
def test_no_cell_is_blank_in_any_table(name: str) -> None:
    table = build(record(), name)
    assert table.rows or name not in readable(record())
    for row in table.rows:
        assert len(row) == len(table.columns)
        assert all(c.main.strip() for c in row)
    header, rows = plain(table)
    assert all(len(row) == len(header) and all(row) for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_every_mark_has_its_footnote(name: str) -> None:
    table = build(record(), name)
    marks = {c.mark for row in table.rows for c in row} | {column.mark for column in table.columns}
    assert marks - {""} == {note.mark for note in table.footnotes} - {""}


def test_a_reason_that_holds_for_a_whole_column_is_marked_in_its_head() -> None:
    kept = "one time-step of many"
    document = record().model_dump(mode="json")
    for found in document["results"][0]["defenses"]:
        for m in (found["energy"] or {"measurements": []})["measurements"]:
            if "mean per time-step" in m["name"]:
                m["reason"] = kept
    table = build(Record.model_validate(document), "energy")
    heads = [column for column in table.columns if column.mark]
    assert [column.title for column in heads] == ["mean per time-step, 45nm-float32", "mean per time-step, 45nm-int32"]
    place = table.columns.index(heads[0])
    assert {row[place].mark for row in table.rows if not row[place].missing} == {""}
    assert kept in [note.text for note in table.footnotes if note.mark == heads[0].mark]


def test_the_energy_table_counts_operations_and_says_that_the_papers_ratio_lacks_its_constants() -> None:
    measured = record()
    energy = measured.results[0].defenses[-1].energy
    assert energy is not None
    assert cell(measured, "energy", "privatesnn", "AC per image").value == sum(x.accumulates for x in energy.layers)
    per_mac = sum(x.accumulates for x in energy.layers) / sum(x.ann_multiply_accumulates for x in energy.layers)
    assert cell(measured, "energy", "privatesnn", "AC per ANN MAC").value == pytest.approx(per_mac)
    assert cell(measured, "energy", "none", "AC per image").status == "not-applicable"
    assert any("55.8×" in note.text for note in build(measured, "energy").footnotes)


def test_the_ablation_follows_table_3_and_names_the_attack_that_leaks_most() -> None:
    table = build(record(), "ablation")
    labels = ["DC (data-free-conversion)", "DC + CET (dc-cet)", "DC + CET + OD (privatesnn)", "none", "conversion"]
    assert [row[0].main for row in table.rows] == labels
    assert [row[1].main for row in table.rows] == ["yes", "yes", "yes", "no", "no"]
    titles = [column.title for column in table.columns]
    assert cell(record(), "ablation", labels[1], f"class leakage: {FD}").value == 388.0
    worst = table.rows[2][titles.index(f"worst attack by {FD}")]
    assert worst.main == "reconversion"
    assert any(n.mark == worst.mark and "unknown: direct-inversion failed" in n.text for n in table.footnotes)
    samples = [row[titles.index("training samples")].main for row in table.rows]
    assert (samples[0], samples[2]) == ("none: not trained", "500"), "DC balances thresholds; it trains nothing"
    recognised = [row[titles.index(f"worst attack by {RECOGNISED}")].main for row in table.rows]
    assert recognised[1] == "reconversion", "a rate leaks most where it is highest, a distance where it is lowest"


def test_one_seed_shows_the_measurements_own_interval() -> None:
    own = cell(record(), "accuracy", "privatesnn", "test accuracy")
    assert (own.main, own.interval_text, own.interval) == ("96.5 %", "[94.5, 98.0]", "Wilson 95 %")


def test_several_seeds_show_their_mean_with_a_t_interval() -> None:
    found = cell(record((0, 1, 2)), "accuracy", "privatesnn", "test accuracy")
    assert found.value == pytest.approx(0.969)
    # standard deviation 0.004, three seeds, t(0.975, 2 degrees of freedom) = 4.30265
    assert found.high is not None
    assert found.high - 0.969 == pytest.approx(4.30265 * 0.004 / 3**0.5, rel=1e-5)
    assert any(
        "3 seeds (0, 1, 2) with a Student t 95 % interval" in n.text
        for n in build(record((0, 1, 2)), "accuracy").footnotes
    )


def test_a_seed_without_a_value_is_not_averaged_away() -> None:
    fine = Number(0.9, "fraction", n=10)
    lost = Number.absent("fraction", "failed", "diverged", 10)
    mean = over_seeds([fine, lost, fine], [0, 1, 2])
    assert (mean.value, mean.status) == (None, "failed")
    assert mean.reason == "diverged (in 1 of 3 seeds; first: seed 1)"


def test_a_defense_that_one_seed_lacks_has_no_value() -> None:
    full, short = seed_result(0), seed_result(1)
    short = short.model_copy(update={"defenses": short.defenses[:-1]})
    found = cell(record((0, 1), results=[full, short]), "accuracy", "privatesnn", "test accuracy")
    assert found.value is None
    assert "seed 1" in (found.reason or "")


def test_the_drop_has_newcombes_interval() -> None:
    # Newcombe (1998), table II, example (a), method 10: 56/70 against 48/80 gives 0.0524 to 0.3339.
    first = Number(56 / 70, "fraction", 0.6917, 0.8772)
    second = Number(48 / 80, "fraction", 0.4905, 0.7004)
    drop = drop_in_points(first, second)
    assert drop.value == pytest.approx(20)
    assert (drop.low, drop.high) == (pytest.approx(5.24, abs=0.02), pytest.approx(33.39, abs=0.02))


def test_a_record_with_nothing_but_failures_still_makes_every_table() -> None:
    broken = accuracy(0.5).model_copy(
        update={"value": None, "low": None, "high": None, "status": "failed", "reason": "NaN"}
    )
    target = defense("mine", 0.5, [attack("a", None, None, status="failed")], steps=None, requested=True)
    target = target.model_copy(update={"accuracy": broken})
    seed = seed_result().model_copy(update={"controls": (), "defenses": (target,)})
    for name in NAMES:
        for format in FORMATS:
            assert render(build(record(results=[seed]), name), format)
    assert cell(record(results=[seed]), "accuracy", "mine", "test accuracy").main == "failed: NaN"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.978, "fraction", "97.8"), (-1.25, "points", "−1.2"), (-0.01, "points", "0.0"),
     (354.81, "distance", "354.8"), (2.714, "ratio", "2.71"), (0.0923, "ratio", "0.092"),
     (10498775.2, "operations", "10,498,775"), (0.0, "pJ", "0.00")],
)  # fmt: skip
def test_numbers_are_shown_with_the_decimals_they_deserve(value: float, unit: str, text: str) -> None:
    assert formatted(value, unit, value) == text


@pytest.mark.parametrize("name", NAMES)
def test_hostile_text_adds_no_column_and_no_tag_to_markdown(name: str) -> None:
    text = render(build(hostile_record(), name), "md")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    bars = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
    assert len(bars) == 1
    assert "<script" not in text
    assert "&lt;script&gt;alert('a\\|b &amp; c\\_d" in text


@pytest.mark.parametrize("name", NAMES)
def test_hostile_text_is_escaped_in_tex(name: str) -> None:
    table = build(hostile_record(), name)
    text = render(table, "tex")
    assert r"\textless{}script\textgreater{}alert('a\textbar{}b \& c\_d \$x\textasciicircum{}2\$ 100\% \#1" in text
    assert r"\{\textasciitilde{}\} \textbackslash{}" in text
    for line in text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]:
        assert len(re.findall(r"(?<!\\)&", line)) == len(table.columns) - 1
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("membership", "weights")])
def test_hostile_text_comes_back_whole_from_csv(name: str) -> None:
    rows = rows_of(hostile_record(), name)
    assert len(rows) == len(build(hostile_record(), name).rows)
    assert any(HOSTILE in value for row in rows for value in [*row, *row.values()])


def test_tex_has_the_rules_of_booktabs_and_a_label() -> None:
    text = render(build(record(), "accuracy"), "tex")
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert r"\label{tab:accuracy}" in text
    assert r"96.5 \% [94.5, 98.0]" in text


def test_write_all_leaves_whole_files_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "tables"
    written = write_all(record(), folder)
    assert sorted(written) == sorted(folder.iterdir())
    assert {path.name for path in written} == {f"{name}.{format}" for name in NAMES for format in FORMATS}
    for path in written:
        assert path.read_text(encoding="utf-8") == render(build(record(), path.stem), path.suffix[1:])  # type: ignore[arg-type]


def test_unknown_names_are_told_with_the_known_ones() -> None:
    with pytest.raises(AuditError, match="unknown table 'enrgy'; known: verdict, accuracy, latency, leakage"):
        build(record(), "enrgy")
    with pytest.raises(ValueError, match="known: csv, md, tex"):
        render(build(record(), "energy"), "xls")  # type: ignore[arg-type]
    with pytest.raises(AuditError, match="no results"):
        build(record(results=[]), "energy")


def test_a_measurement_of_another_unit_is_another_column() -> None:
    seed = seed_result()
    other = Measurement(**{**distance(3.0).model_dump(), "unit": "squared distance"})
    control = seed.controls[0].model_copy(update={"measurements": (other,)})
    titles = [
        (c.title, c.unit)
        for c in build(record(results=[seed.model_copy(update={"controls": (control,)})]), "leakage").columns
    ]
    assert (FD, "distance") in titles
    assert (FD, "squared distance") in titles


def test_attacks_that_bring_no_images_have_tables_of_their_own() -> None:
    found = Measurement(
        name="AUC, loss", value=0.6, low=0.5, high=0.7, interval="DeLong 95 %", n=100, unit="fraction",
        direction="higher means more leakage",
    )  # fmt: skip
    asked = attack("membership-inference", None, None).model_copy(
        update={"evidence": "membership", "measurements": (found,), "leakage": None}
    )
    seed = seed_result()
    target = seed.defenses[-1].model_copy(update={"attacks": (*seed.defenses[-1].attacks, asked)})
    given = record(results=[seed.model_copy(update={"defenses": (*seed.defenses[:-1], target)})])
    assert "membership" in readable(given)
    assert "weights" not in readable(given)
    (row,) = rows_of(given, "membership")
    assert (row["target"], row["signal"]) == (target.defense, "loss")
    assert parts(row, "AUC")["value"] == "0.6"
    assert not any(r["images made by"] == "membership-inference" for r in rows_of(given, "leakage"))


def _leaking_more(attack: AttackResult, by: float) -> AttackResult:
    if attack.leakage is None or attack.leakage.value is None:
        return attack
    return attack.model_copy(
        update={"leakage": attack.leakage.model_copy(update={"value": min(1.0, attack.leakage.value + by)})}
    )


def test_the_verdict_ranks_by_intervals_over_seeds_and_never_ranks_a_masked_gradient() -> None:
    whole = [
        s.model_copy(update={"defenses": tuple(
            d.model_copy(update={"attacks": tuple(_leaking_more(a, 0.001 * s.seed) for a in d.attacks)})
            for d in s.defenses
        )})
        for s in (seed_result(n) for n in range(3))
    ]  # fmt: skip
    seeds = [
        s.model_copy(update={"defenses": tuple(
            d.model_copy(update={"attacks": tuple(a for a in d.attacks if a.status != "failed")}) for d in s.defenses
        )})
        for s in whole
    ]  # fmt: skip
    flags = {"privatesnn": ("masked-gradients",)}
    masked = [
        s.model_copy(update={"defenses": tuple(
            d.model_copy(update={"flags": flags.get(d.defense, ())}) for d in s.defenses
        )})
        for s in seeds
    ]  # fmt: skip
    ranks = {r["target"]: r["rank"] for r in rows_of(record((0, 1, 2), results=seeds), "verdict")}
    assert ranks["privatesnn"] == "1"
    (lost,) = [r for r in rows_of(record((0, 1, 2), results=whole), "verdict") if r["target"] == "privatesnn"]
    assert lost["rank"] == "unranked", "an attack that failed on it might have been the worst"
    flagged = build(record((0, 1, 2), results=masked), "verdict")
    (row,) = [r for r in flagged.rows if r[1].main == "privatesnn"]
    assert row[0].main == "unranked"
    assert any("masked-gradients: the target answers" in note.text for note in flagged.footnotes)
    assert {r["rank"] for r in rows_of(record(), "verdict")} == {"unranked"}, "one seed has no interval"


def test_what_a_defense_with_a_proof_wrote_down_stands_under_the_accuracies() -> None:
    notes = {
        "epsilon": 7.998,
        "delta": 1e-5,
        "accountant": "RDP",
        "neighbouring relation": "one image added or removed",
    }
    result = seed_result()
    proved = result.defenses[1].model_copy(update={"notes": notes})
    proved_once = result.model_copy(update={"defenses": (result.defenses[0], proved)})
    text = render(build(record(results=[proved_once]), "accuracy"), "md")
    assert "conversion: (8, 1e-05)-differential privacy of the training set spent by one target, by its own" in text
    again = proved_once.model_copy(update={"seed": 1})
    text = render(build(record((0, 1), results=[proved_once, again]), "accuracy"), "md")
    assert "spent by one target, (16, 2e-05) by the 2 of all seeds together, by its own accountant (RDP; one" in text
    assert "differential privacy" not in render(build(record(), "accuracy"), "md")


def test_private_images_are_the_training_samples_of_a_network_trained_privately() -> None:
    result = seed_result()
    private = result.defenses[3].model_copy(update={"notes": {"private images": 1006, "synthetic_images": 320}})
    made = record(results=[result.model_copy(update={"defenses": (*result.defenses[:3], private)})])
    assert "1,006 private" in render(build(made, "ablation"), "md")
