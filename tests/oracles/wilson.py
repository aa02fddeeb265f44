"""Wilson's score interval, from the two roots of (p^ - p)^2 = z^2 p (1 - p) / n."""

import math
from statistics import NormalDist


def wilson_from_the_quadratic(successes: int, n: int, confidence: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    observed = successes / n
    a, b, c = 1 + z**2 / n, -(2 * observed + z**2 / n), observed**2
    root = math.sqrt(max(b**2 - 4 * a * c, 0.0))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)
