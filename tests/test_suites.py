"""What --attack means: suites, names, and settings that a suite fixes."""

from dataclasses import asdict

import pytest

from audit.errors import AuditError
from audit.registry import ATTACKS
from audit.request import chosen_attacks
from audit.store import digest
from audit.suites import SUITES
from tests.conftest import tiny_request

# Needs public images: in no suite. And what is about robustness and no part of the privacy audit.
OPTIONAL = {"generative-inversion", "evasion", "square-evasion"}


def test_all_attacks_begin_with_the_papers_two_in_its_order() -> None:
    chosen = tiny_request("none", "all").attacks
    assert [component.label for component in chosen[:2]] == ["reconversion", "direct-inversion"]
    assert len({component.label for component in chosen}) == len(chosen)
    assert {component.name for component in chosen} == set(ATTACKS.names()) - OPTIONAL


def test_a_suite_and_a_name_can_be_asked_for_together_and_each_attack_runs_once() -> None:
    labels = [component.label for component in tiny_request("none", "paper-v1,reconversion,weight-recovery").attacks]
    assert labels == ["reconversion", "direct-inversion", "weight-recovery"]


def test_a_variant_has_its_presets_and_nothing_passed_changes_them() -> None:
    request = tiny_request("none", "class-leakage-v1", **{"adaptive-reconversion__rate": "0.5"})
    built = {c.variant: request.settings.build(c) for c in request.attacks if c.name == "adaptive-reconversion"}
    assert (built["rate-curve"].activation, built["rate-curve"].calibrate) == ("rate-curve", True)
    assert {attack.rate for attack in built.values()} == {0.5}
    with pytest.raises(AuditError, match="the suite fixes it for 'adaptive-reconversion \\(relu\\)'"):
        tiny_request("none", "class-leakage-v1", **{"attack__activation": "relu"})


# A released suite never changes: another attack or another setting makes the next version.
FROZEN = {
    "class-leakage-v1": "4c1dde404e01",
    "class-leakage-v2": "9cf23c4948cf",
    "membership-v1": "6e9a9670526f",
    "paper-v1": "a79b1042bb57",
    "robustness-v1": "69dd65c61755",
}


def test_a_released_suite_is_what_it_was() -> None:
    assert {name: digest(asdict(suite)["entries"])[:12] for name, suite in SUITES.items()} == FROZEN


def test_a_bad_setting_is_reported_under_the_defense_that_was_asked_for() -> None:
    with pytest.raises(AuditError, match=r"^privatesnn\.time_steps = '0'"):
        tiny_request("privatesnn", defense__time_steps="0")


def test_all_attacks_and_one_more() -> None:
    every = [component.label for component in chosen_attacks("all")]
    more = chosen_attacks("all, generative-inversion,reconversion")
    assert [component.label for component in more] == [*every, "generative-inversion"]
