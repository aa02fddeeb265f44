"""Epsilon of the Poisson-subsampled Gaussian mechanism by numerical integration of its definition."""

import numpy as np
from scipy.integrate import quad

ORDERS = (*np.arange(1.2, 12, 0.2), *range(12, 64))


def renyi(order: float, sigma: float, rate: float) -> float:
    """Renyi divergence of one step: log E[((1 - q) + q N(z; 1, sigma^2) / N(z; 0, sigma^2))^order] / (order - 1)."""

    def integrand(z: float) -> float:
        ratio = (1 - rate) + rate * np.exp((2 * z - 1) / (2 * sigma**2))
        return float(np.exp(order * np.log(ratio) - z**2 / (2 * sigma**2)) / (sigma * np.sqrt(2 * np.pi)))

    # Besides z = 0, the integrand may peak where the second component, tilted by the order, has its mean.
    moment, _ = quad(integrand, -15 * sigma, order + 15 * sigma, points=(0.0, 1.0, order), limit=500, epsrel=1e-10)
    return float(np.log(moment) / (order - 1))


def epsilon(sigma: float, delta: float, rate: float, steps: int) -> float:
    """The best over `ORDERS` of the conversion of Balle et al. 2020, Theorem 21."""
    return min(
        steps * renyi(order, sigma, rate) + np.log((order - 1) / order) - np.log(delta * order) / (order - 1)
        for order in ORDERS
    )
