"""The quantisation paper's conclusions, answered where the runs can answer them."""

import pytest

from audit.records import Record
from leaderboards.quantization import build
from tests.leaderboards.evaded import LOSSES, run, target
from tests.leaderboards.quantization.test_layouts import CODINGS, rows

WORST = "direct coding is the least robust"
WIDER = "quantisation widens the variation over parameters"
ORDER = "threshold > bits > coding in influence"
SPARSER = "what is sparser is more robust"
Rows = list[dict[str, str]]


def runs(
    threshold: float = 0.0,
    bits: float = 0.0,
    direct: float = 0.0,
    widens: float = 0.0,
    name: str = "quantized",
    denser: bool = False,
) -> list[Record]:
    """Each factor adds to the loss by about that much; ``widens``: per threshold where it is quantised."""
    made = []
    for n, coding in enumerate(CODINGS):
        for width in (None, 4):
            for value in (0.4, 1.0):
                above, about = (value - 0.4) / 0.6, 1 + 0.02 * n
                more = about * (above * threshold + (bits if width else 0)) + (direct if coding == "direct" else 0)
                more += above * widens if width else 0
                spikes = 2 - 0.3 * above - (0.1 if width else 0) - (0.2 if coding != "direct" else 0)
                spikes = 4 - spikes if denser else spikes
                made.append(run(target(coding, width, (value, 1.0, 0.5), name, more, spikes=spikes)))
    return made


def found(records: list[Record]) -> Rows:
    [table] = build("quantization-claims", records)
    return rows(table)


def answers(shown: Rows, claim: str) -> list[str]:
    return [row["answer"] for row in shown if row["claim of the paper"] == claim]


@pytest.mark.parametrize(("more", "answer"), [(0.2, "confirmed"), (0.0, "not separated"), (-0.2, "not confirmed")])
def test_direct_coding_is_the_least_robust_where_its_loss_is_the_largest_by_more_than_the_intervals(
    more: float, answer: str
) -> None:
    shown = found(runs(direct=more))
    assert answers(shown, WORST) == [answer] * 2 * len(LOSSES)
    assert shown[0]["of"] == "loss to FGSM I, before quantisation: direct"
    assert shown[0]["measured"] == f"{100 * (LOSSES['I'] + more):.1f} %".replace("-", "\N{MINUS SIGN}")


def test_one_coding_that_was_not_run_leaves_the_worst_one_open() -> None:
    without = [r for r in runs(direct=0.2) if r.results[0].defenses[0].settings["coding"] != "latency"]
    assert answers(found(without), WORST) == ["not answered"] * 6


def test_codings_are_compared_at_the_bits_that_all_were_run_with() -> None:
    extra = [run(target("latency", bits, (0.4, 1.0, 0.5), "quantized", more=-0.5)) for bits in (2, 1)]
    assert answers(found([*runs(), *extra]), WORST) == ["not separated"] * 6


def test_a_network_that_has_nothing_to_lose_is_left_out_and_named() -> None:
    dead = run(target("phase", 1, (0.4, 1.0, 0.5), "quantized", more=-0.6, accuracy=0.1))
    [table] = build("quantization-claims", [*runs(bits=0.3), dead])
    assert any("phase coding, 1 bit, threshold 0.4 (accuracy not above chance" in n.text for n in table.footnotes)
    assert answers(rows(table), SPARSER)[1] == "not confirmed"


def test_a_range_over_parameters_that_grows_says_by_how_much_and_one_that_does_not_is_no_confirmation() -> None:
    loss, spikes = answers(found(runs(threshold=0.2, widens=0.4)), WIDER)
    assert loss == "+194%; confirmed"
    assert spikes.endswith("not separated")
    shrunk, _ = answers(found(runs(threshold=0.6, widens=-0.55)), WIDER)
    assert shrunk.endswith("not confirmed")


def test_the_range_over_parameters_is_that_of_the_codings_that_have_several_and_names_them() -> None:
    records = [
        record
        for record in runs(widens=0.3)
        if (settings := record.results[0].defenses[0].settings)["coding"] != "latency"
        or settings["firing_threshold"] == 0.4
    ]
    shown = [row for row in found(records) if row["claim of the paper"] == WIDER]
    assert [row["of"].partition(",")[2] for row in shown] == [" 4 bit, direct, rate, phase coding: quantised"] * 2
    assert "not answered" not in {row["answer"] for row in shown}


@pytest.mark.parametrize(
    ("threshold", "bits", "direct", "answer"),
    [(0.5, 0.3, 0.1, "confirmed"), (0.1, 0.3, 0.5, "not confirmed"), (-0.5, 0.3, 0.1, "confirmed")],
)
def test_the_order_of_influence_is_that_of_the_sizes_of_the_changes(
    threshold: float, bits: float, direct: float, answer: str
) -> None:
    shown = found(runs(threshold, bits, direct))
    assert [row["of"] for row in shown if row["claim of the paper"] == ORDER] == [
        "change of the loss, threshold > bits: a higher threshold",
        "change of the loss, threshold > coding: a higher threshold",
        "change of the loss, bits > coding: fewer bits",
    ]
    assert answers(shown, ORDER) == [answer] * 3


def test_changes_that_are_all_the_same_have_no_interval_and_separate_nothing() -> None:
    exact = [
        run(target(coding, width, (value, 1.0, 0.5), "quantized", more=value / 10, spikes=2 - value))
        for coding in CODINGS
        for width in (None, 4)
        for value in (0.4, 1.0)
    ]
    assert answers(found(exact), SPARSER)[0] == "not separated"


def test_what_is_sparser_is_more_robust_where_the_loss_falls_and_the_spikes_do() -> None:
    assert answers(found(runs(-0.3, 0.3, 0.3)), SPARSER) == ["confirmed", "not confirmed", "confirmed"]
    assert answers(found(runs(-0.3, 0.3, 0.3, denser=True)), SPARSER) == ["not sparser"] * 2 + ["not answered"]


def test_a_coding_that_spikes_more_than_direct_coding_is_no_sparser_one() -> None:
    """Its loss, much larger, changes nothing of what the sparser codings do."""
    records = runs(direct=0.3)
    loud = [run(target("phase", None, (t, 1.0, 0.5), "quantized", 0.9, spikes=9.0)) for t in (0.4, 1.0)]
    quiet = [r for r in records if r.results[0].defenses[0].settings["coding"] != "phase"]
    row = [row for row in found([*quiet, *loud]) if row["claim of the paper"] == SPARSER][2]
    assert row["measured"].startswith("\N{MINUS SIGN}")


def test_networks_of_one_training_are_one_group() -> None:
    """Bit widths begin with the same training: three of them are no three observations of a coding."""
    records = [r for r in runs(direct=0.3) if r.results[0].defenses[0].settings["firing_threshold"] == 0.4]
    row = [row for row in found(records) if row["claim of the paper"] == SPARSER][2]
    assert row["answer"] == "not separated"
    assert "[" not in row["measured"]


def test_networks_of_two_defenses_are_no_pair() -> None:
    both = [*runs(), *(run(target("direct", 4, (0.4, 1.0, 0.5), "quantized-perception", more=0.3)),)]
    assert [row["measured"] for row in found(both)] == [row["measured"] for row in found(runs())]


def test_what_the_runs_cannot_answer_says_what_to_run() -> None:
    shown = found([run(target(coding, bits)) for coding in CODINGS for bits in (None, 8, 4)])
    assert answers(shown, WIDER) == ["not answered"] * 4
    assert answers(shown, ORDER)[:2] == ["not answered"] * 2
    assert {row["measured"] for row in shown if row["answer"] == "not answered"} == {"not run: --track robustness"}
