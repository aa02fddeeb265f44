"""The quantisation paper's conclusions, answered where the runs can answer them."""

import re

import pytest

from leaderboards.quantization import build
from tests.leaderboards.evaded import LOSSES, run, target
from tests.leaderboards.quantization.test_layouts import CODINGS, RUNS, rows

WORST = "direct coding is the least robust"
WIDER = "quantisation widens the variation over parameters"
ORDER = "threshold > bits > coding in influence"
SPARSER = "what is sparser is more robust"


def planted(
    threshold: float = 0.0, bits: float = 0.0, direct: float = 0.0, widens: float = 0.0
) -> list[dict[str, str]]:
    """Rows of runs where each factor adds to the loss by that much; ``widens``: per threshold where it is quantised."""
    runs = []
    for coding in CODINGS:
        for width in (None, 4):
            for value in (0.4, 1.0):
                above = (value - 0.4) / 0.6
                more = above * threshold + (bits if width else 0) + (direct if coding == "direct" else 0)
                more += above * widens if width else 0
                runs.append(run(target(coding, width, (value, 1.0, 0.5), more=more)))
    [table] = build("quantization-claims", runs)
    return rows(table)


def answers(found: list[dict[str, str]], claim: str) -> list[str]:
    return [row["answer"] for row in found if row["claim of the paper"] == claim]


@pytest.mark.parametrize(("more", "answer"), [(0.2, "confirmed"), (0.0, "not separated"), (-0.2, "not confirmed")])
def test_direct_coding_is_the_least_robust_where_its_loss_is_the_largest_by_more_than_the_intervals(
    more: float, answer: str
) -> None:
    found = planted(direct=more)
    assert answers(found, WORST) == [answer] * 2 * len(LOSSES)
    first = found[0]
    assert (first["of"], first["measured"]) == (
        "loss to FGSM I, before quantisation: direct",
        f"{100 * (LOSSES['I'] + more):.1f} %".replace("-", "\N{MINUS SIGN}"),
    )


def test_a_range_over_parameters_that_grows_says_by_how_much_and_one_that_does_not_is_no_confirmation() -> None:
    loss, spikes = answers(planted(threshold=0.2, widens=0.4), WIDER)
    assert loss == "+200%; confirmed"
    assert spikes == "not separated"
    shrunk, _ = answers(planted(threshold=0.6, widens=-0.55), WIDER)
    assert shrunk == "-92%; not confirmed"


@pytest.mark.parametrize(
    ("threshold", "bits", "direct", "answer"),
    [
        (0.5, 0.3, 0.1, ["confirmed", "confirmed", "confirmed"]),
        (0.1, 0.3, 0.5, ["not confirmed", "not confirmed", "not confirmed"]),
        (-0.5, 0.3, 0.1, ["confirmed", "confirmed", "confirmed"]),
    ],
)
def test_the_order_of_influence_is_that_of_the_sizes_of_the_changes(
    threshold: float, bits: float, direct: float, answer: list[str]
) -> None:
    found = planted(threshold, bits, direct)
    assert [row["of"] for row in found if row["claim of the paper"] == ORDER] == [
        "a higher threshold > fewer bits: a higher threshold",
        "a higher threshold > a sparser coding: a higher threshold",
        "fewer bits > a sparser coding: fewer bits",
    ]
    assert all(re.match(expected, said) for expected, said in zip(answer, answers(found, ORDER), strict=True))


def test_what_is_sparser_is_more_robust_where_the_loss_falls() -> None:
    assert answers(planted(-0.3, 0.3, 0.3), SPARSER) == ["confirmed", "not confirmed", "confirmed"]


def test_what_the_runs_cannot_answer_says_what_to_run() -> None:
    [table] = build("quantization-claims", RUNS)
    found = rows(table)
    assert answers(found, WIDER) == ["not answered"] * 4
    assert answers(found, ORDER)[:2] == ["not answered"] * 2
    assert {row["measured"] for row in found if row["answer"] == "not answered"} == {"not run: --track robustness"}
