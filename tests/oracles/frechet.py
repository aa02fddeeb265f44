"""The Fréchet distance between Gaussians as printed, with a matrix square root."""

import numpy as np
from scipy import linalg


def frechet_from_moments(mean_1: np.ndarray, cov_1: np.ndarray, mean_2: np.ndarray, cov_2: np.ndarray) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)): Heusel et al. 2017, Eq. 6."""
    root = linalg.sqrtm(cov_1 @ cov_2).real
    return float(((mean_1 - mean_2) ** 2).sum() + np.trace(cov_1 + cov_2 - 2 * root))


def frechet_from_features(real: np.ndarray, fake: np.ndarray) -> float:
    moments = [moment for rows in (real, fake) for moment in (rows.mean(axis=0), np.cov(rows, rowvar=False))]
    return frechet_from_moments(*moments)


def rows_with_moments(mean: np.ndarray, cov: np.ndarray, n: int, seed: int) -> np.ndarray:
    """n rows whose sample mean and (n - 1) sample covariance are exactly the given ones."""
    rows = np.random.default_rng(seed).standard_normal((n, len(mean)))
    rows -= rows.mean(axis=0)
    whiten = np.linalg.inv(np.linalg.cholesky(np.cov(rows, rowvar=False).reshape(len(mean), len(mean))))
    return rows @ whiten.T @ np.linalg.cholesky(cov).T + mean
