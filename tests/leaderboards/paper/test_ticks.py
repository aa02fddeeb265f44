import pytest

from audit.records import DefenseResult
from leaderboards.cells import Number, Table, Words
from leaderboards.paper import Options, build
from tests.leaderboards.paper.planted import SPREAD, inversion, leaking, run, target

CLASS, DATA = "class leakage, measured", "data leakage, measured"
WORST = "leakage, worst attack"


def cell(table: Table, defense: str, column: str) -> str:
    return found(table, defense, column).main


def found(table: Table, defense: str, column: str) -> Words | Number:
    place = [c.title for c in table.columns].index(column)
    [row] = [row for row in table.rows if defense in (row[0].main, row[1].main)]
    return row[place]


def table_1(
    *targets: list[DefenseResult], threshold: float = 0.1, suites: tuple[str, ...] = ("class-leakage-v1",)
) -> Table:
    [table] = build("paper-table-1", [run(*targets, suites=suites)], Options(leakage_threshold=threshold))
    return table


def test_an_interval_wholly_below_the_threshold_addresses_class_leakage() -> None:
    table = table_1(leaking("privatesnn", 0.03))
    assert cell(table, "privatesnn", CLASS) == "addressed"


def test_an_interval_wholly_above_the_threshold_does_not_address_it() -> None:
    table = table_1(leaking("privatesnn", 0.6))
    assert cell(table, "privatesnn", CLASS) == "not addressed"


def test_an_interval_across_the_threshold_is_undecided_and_the_option_moves_the_threshold() -> None:
    targets = leaking("privatesnn", 0.11)
    for across in (targets, leaking("privatesnn", 0.09)):
        assert cell(table_1(across), "privatesnn", CLASS) == "undecided: interval across the threshold"
    assert cell(table_1(targets, threshold=0.2), "privatesnn", CLASS) == "addressed"
    assert cell(table_1(targets, threshold=0.05), "privatesnn", CLASS) == "not addressed"
    assert any("here 0.2" in note.text for note in table_1(targets, threshold=0.2).footnotes)


def test_a_void_cell_is_never_addressed() -> None:
    targets = [target("privatesnn", inversion("adaptive-inversion", None)) for _ in SPREAD]
    assert cell(table_1(targets), "privatesnn", CLASS) == "undecided: void"


def test_a_lower_bound_is_never_addressed_and_still_not_addressed_where_it_is_high() -> None:
    failed = inversion("black-box-inversion", None)
    failed = failed.model_copy(
        update={"leakage": failed.leakage.model_copy(update={"status": "failed"})} if failed.leakage else {}
    )
    low = [d.model_copy(update={"attacks": (*d.attacks, failed)}) for d in leaking("privatesnn", 0.03)]
    high = [d.model_copy(update={"attacks": (*d.attacks, failed)}) for d in leaking("dc-cet", 0.6)]
    table = table_1(low, high)
    assert cell(table, "privatesnn", CLASS) == "undecided: a lower bound"
    assert cell(table, "dc-cet", CLASS) == "not addressed"


def test_a_run_without_the_suite_of_adaptive_attacks_addresses_nothing() -> None:
    table = table_1(leaking("privatesnn", 0.03), suites=("paper-v1",))
    assert cell(table, "privatesnn", CLASS) == "undecided: a lower bound"
    assert any("no suite of adaptive attacks" in note.text for note in table.footnotes)


def test_masked_gradients_address_nothing() -> None:
    flagged = [d.model_copy(update={"flags": ("masked-gradients",)}) for d in leaking("privatesnn", 0.03)]
    assert cell(table_1(flagged), "privatesnn", CLASS) == "undecided: a lower bound"


def test_one_seed_decides_nothing_about_class_leakage() -> None:
    table = table_1(leaking("privatesnn", 0.03)[:1])
    assert cell(table, "privatesnn", CLASS) == "undecided: no interval"


def test_a_run_without_attacks_decides_nothing_about_class_leakage() -> None:
    assert cell(table_1([target("privatesnn") for _ in SPREAD]), "privatesnn", CLASS) == "undecided: no attack"


def test_data_leakage_follows_the_access_that_the_harness_enforced() -> None:
    given = [d.model_copy(update={"data_access": "unknown"}) for d in leaking("checkpoint", 0.6)]
    table = table_1(leaking("privatesnn", 0.6), leaking("conversion", 0.6, real_data=True), given)
    assert cell(table, "privatesnn", DATA) == "addressed"
    assert cell(table, "conversion", DATA) == "not addressed"
    assert cell(table, "checkpoint", DATA) == "undecided"


def test_the_number_and_its_interval_stand_beside_every_tick() -> None:
    number = found(table_1(leaking("privatesnn", 0.6)), "privatesnn", WORST)
    assert isinstance(number, Number)
    assert number.value == pytest.approx(0.6)
    assert number.interval_text
    assert "adaptive-inversion" in (number.reason or "")


def test_every_system_of_a_family_has_its_own_row_and_one_that_was_not_run_says_how() -> None:
    table = table_1(leaking("conversion", 0.6, real_data=True))
    rows = {row[1].main: row for row in table.rows}
    assert rows["rmp-snn"][3].main == "not run: --defense rmp-snn"
    assert rows["rmp-snn"][4].main == rows["conversion"][4].main == "not addressed"
    assert rows["conversion"][3].main == "not addressed"


def test_the_ablation_has_the_papers_three_rows_and_no_other() -> None:
    [table] = build("paper-table-3", [run(leaking("privatesnn", 0.6), leaking("conversion", 0.6))])
    assert [row[0].main for row in table.rows] == [
        "DC: data-free-conversion",
        "DC + CET: dc-cet",
        "DC + CET + OD: privatesnn",
    ]
    assert cell(table, "DC + CET: dc-cet", DATA) == "not run: --defense dc-cet"
    assert cell(table, "DC + CET + OD: privatesnn", "accuracy, paper") == "89.2"
