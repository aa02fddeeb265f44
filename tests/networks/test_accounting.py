"""The noise buys the epsilon that it is said to buy."""

import runpy
import sys

import pytest

from audit.errors import AuditError
from audit.networks import accounting
from audit.networks.accounting import TOLERANCE, accountant_name, epsilon_spent, noise_multiplier, require_opacus
from tests.oracles import accounting as oracle

pytest.importorskip("opacus", reason="the accounting needs the package opacus")

SETTINGS = [(1.0, 0.01, 1000), (2.0, 0.25, 60), (0.8, 0.03, 200), (5.0, 1.0, 40)]


@pytest.mark.parametrize(("sigma", "rate", "steps"), SETTINGS)
def test_epsilon_is_the_one_that_integrating_the_definition_gives(sigma: float, rate: float, steps: int) -> None:
    assert epsilon_spent(sigma, 1e-5, rate, steps) == pytest.approx(oracle.epsilon(sigma, 1e-5, rate, steps), rel=2e-3)


@pytest.mark.parametrize(("sigma", "rate", "steps"), SETTINGS[:3])
def test_epsilon_is_at_most_a_fifth_above_that_of_numerical_composition(sigma: float, rate: float, steps: int) -> None:
    from opacus.accountants import PRVAccountant

    other = PRVAccountant()
    other.history = [(sigma, rate, steps)]
    tight = other.get_epsilon(1e-5)
    assert tight < epsilon_spent(sigma, 1e-5, rate, steps) < 1.2 * tight


@pytest.mark.parametrize("epsilon", [1.0, 8.0, 50.0])
def test_the_noise_spends_what_was_asked_for_and_not_more(epsilon: float) -> None:
    spent = epsilon_spent(noise_multiplier(epsilon, 1e-5, 0.05, 100), 1e-5, 0.05, 100)
    assert (1 - 2 * TOLERANCE) * epsilon < spent <= epsilon


def test_a_looser_epsilon_a_smaller_sample_and_fewer_steps_need_less_noise() -> None:
    noise = noise_multiplier(8.0, 1e-5, 0.05, 100)
    assert noise_multiplier(50.0, 1e-5, 0.05, 100) < noise < noise_multiplier(1.0, 1e-5, 0.05, 100)
    assert noise_multiplier(8.0, 1e-5, 0.02, 100) < noise
    assert noise_multiplier(8.0, 1e-5, 0.05, 50) < noise


def test_an_epsilon_that_no_noise_reaches_is_one_line() -> None:
    with pytest.raises(AuditError, match="no noise gives epsilon 1e-09 at delta 1e-05 after 100 steps"):
        noise_multiplier(1e-9, 1e-5, 0.1, 100)


def test_without_opacus_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    require_opacus("this")
    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(AuditError) as raised:
        require_opacus("DP-SGD")
    assert str(raised.value) == "DP-SGD needs Opacus, which is not installed: pip install 'snn-privacy-audit[dp]'"


def test_without_opacus_the_module_can_still_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opacus", None)
    assert "noise_multiplier" in runpy.run_path(accounting.__file__)


def test_the_record_names_the_method_and_its_implementation() -> None:
    assert accountant_name().startswith("RDP, Opacus 1.")
