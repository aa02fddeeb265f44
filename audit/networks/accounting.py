"""What noise buys which epsilon: Renyi accounting of DP-SGD by Opacus, an optional extra."""

from functools import cache
from importlib.metadata import version
from importlib.util import find_spec

from audit.errors import AuditError

TOLERANCE = 1e-3
"""The epsilon that `noise_multiplier` reaches lies at most this share below the one asked for."""


def require_opacus(where: str) -> None:
    """Raises AuditError where Opacus is not installed; ``where`` names what needs it."""
    if find_spec("opacus") is None:
        raise AuditError(f"{where} needs Opacus, which is not installed: pip install 'snn-privacy-audit[dp]'")


@cache  # a search of seconds, and every shadow of a membership inference asks for the same
def noise_multiplier(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """The smallest sigma, within `TOLERANCE`, with which that many steps are (``epsilon``, ``delta``)-private.

    sigma is the noise's standard deviation divided by the clipping norm. Raises AuditError where none is large enough.
    """
    from opacus.accountants.utils import get_noise_multiplier

    try:
        found = get_noise_multiplier(
            target_epsilon=epsilon,
            target_delta=delta,
            sample_rate=sample_rate,
            steps=steps,
            accountant="rdp",
            epsilon_tolerance=TOLERANCE * epsilon,
        )
    except ValueError as error:
        raise AuditError(
            f"no noise gives epsilon {epsilon:g} at delta {delta:g} after {steps} steps at sample rate "
            f"{sample_rate:g}; raise epsilon, or take fewer steps"
        ) from error
    return float(found)


def epsilon_spent(noise_multiplier: float, delta: float, sample_rate: float, steps: int) -> float:
    """Epsilon of that many steps of the Poisson-subsampled Gaussian mechanism, neighbours by one image more or less.

    Renyi differential privacy (Mironov, Talwar and Zhang 2019) converted as by Balle et al. 2020, Theorem 21: an upper
    bound in closed form. Numerical composition (Gopi et al. 2021) proves up to a sixth less for the same noise.
    """
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(noise_multiplier, sample_rate, steps)]
    return float(accountant.get_epsilon(delta=delta))


def accountant_name() -> str:
    """For a record: the method, and which implementation of it."""
    return f"RDP, Opacus {version('opacus')}"
