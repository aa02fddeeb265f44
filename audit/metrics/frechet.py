"""Fréchet distance between the features of real and of reconstructed images."""

import math

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from audit.metrics.arrays import Array, as_numpy
from audit.metrics.statistics import without_value
from audit.records import Measurement

ADVISED_IMAGES_PER_FEATURE = 5
# Of d^2, relative to the traces: up to D square roots of eigenvalues that are 1e-16 of the largest instead of 0.
# Variance below this share of the mean square is the round-off of float64 in features that are all the same.
STILL = 1e-28
ROUND_OFF = 1e-4


def frechet_distance(
    name: str,
    real_features: Array,
    fake_features: Array,
    advised_images_per_feature: int = ADVISED_IMAGES_PER_FEATURE,
) -> Measurement:
    """d^2 = |m_r - m_f|^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2)) of the two sets' means and covariances.

    ``real_features`` [N, D] and ``fake_features`` [M, D]: one row per image, any order, from the same network;
    the squared unit of the features, from 0 (equal means and covariances); lower means more leakage.
    The formula is torchmetrics' `FrechetInceptionDistance`, in float64, on features computed elsewhere.

    - N <= D or M <= D: a covariance has no full rank; 'insufficient', with the counts.
    - D < N or M < 5 D: the value is given, and its reason says that it is biased upwards.
    - a feature that is not finite, or too large to be squared, or real features that do not vary: 'undefined', with the
      reason; a dead network would put every set at distance 0.

    No interval: a bootstrap resamples the bias too, and its interval lies above the value (6.4 became 9.5 to 22.1).
    ``n`` is the size of the smaller set. Distances are comparable for one feature network and one N and M only.
    Raises ValueError for another shape, different D, D = 0, or less than 1 advised image per feature.
    Source: Heusel et al., "GANs trained by a two time-scale update rule", NeurIPS 2017, Eq. 6.
    """
    if advised_images_per_feature < 1:
        raise ValueError(f"advised_images_per_feature must be at least 1, not {advised_images_per_feature}")
    real, fake = _features(real_features, "real_features"), _features(fake_features, "fake_features")
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"real_features have {real.shape[1]} columns, fake_features {fake.shape[1]}")

    n, dimension = min(len(real), len(fake)), real.shape[1]
    which = "reconstructed" if len(fake) <= len(real) else "real"
    advised = advised_images_per_feature * dimension
    broken = [int((~rows.isfinite().all(dim=1)).sum()) for rows in (real, fake)]
    if any(broken):
        why = f"features that are not finite: {broken[0]} real and {broken[1]} reconstructed images"
        return without_value(name, n, "distance", "lower means more leakage", "undefined", why)
    if n <= dimension:
        why = f"{n} images for {dimension} features; needs more than {dimension}, better {advised} ({which} set)"
        return without_value(name, n, "distance", "lower means more leakage", "insufficient", why)

    if float(real.var(dim=0).sum()) <= STILL * float(real.square().mean(dim=0).sum()):
        why = "the features of the real images do not vary: their network is dead, and every set would be near"
        return without_value(name, n, "distance", "lower means more leakage", "undefined", why)
    value = _distance(real, fake)
    if value is None:
        why = "float64 gives no usable distance: the features are too large, or too unequal in scale"
        return without_value(name, n, "distance", "lower means more leakage", "undefined", why)
    bias = f"biased upwards: {n} images for {dimension} features; better {advised} ({which} set)"
    return Measurement(
        name=name,
        value=value,
        interval=None,
        n=n,
        unit="distance",
        direction="lower means more leakage",
        reason=bias if n < advised else None,
    )


class _PassThrough(nn.Module):
    """Feature network of a metric that is fed features. ``normalize`` of the metric does not reach it."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def _distance(real: Tensor, fake: Tensor) -> float | None:
    """None where the result is not finite or negative beyond round-off; a negative within round-off is 0."""
    # The distance does not change under translation; sums of squares around the common mean lose fewer digits.
    centre = (real.mean(dim=0) + fake.mean(dim=0)) / 2
    real, fake = real - centre, fake - centre
    metric = FrechetInceptionDistance(feature=_PassThrough(real.shape[1])).to(real.device).set_dtype(torch.float64)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    try:
        value = float(metric.compute())
    except RuntimeError:  # torch's eigenvalues of a matrix with an infinity in it, or that do not converge
        return None
    scale = float(real.var(dim=0).sum() + fake.var(dim=0).sum())
    if not math.isfinite(value) or value < -ROUND_OFF * scale:
        return None
    return max(value, 0.0)


def _features(values: Array, what: str) -> Tensor:
    rows = torch.as_tensor(as_numpy(values))
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(f"{what} must have the shape [images, features], not {list(rows.shape)}")
    return rows.double()
