"""The headline: how far an attack comes from an untrained network towards real images."""

from audit.metrics.statistics import without_value
from audit.records import Direction, Measurement

LEAKAGE = "leakage"
DIRECTION: Direction = "higher means more leakage"
# Between a null and a real image set that are nearer to each other than this share, the scale has no length.
LEAST_SCALE = 0.05


def leakage(found: Measurement, null: Measurement, real: Measurement, name: str = LEAKAGE) -> Measurement:
    """clip((D_null - D) / (D_null - D_real), 0, 1) of three distances to the private images by the same features.

    ``found``: D of an attack's images; ``null``: the same attack's on an untrained network of the same shape; ``real``:
    held-out real images, as many. 0: no nearer than what an attack makes of a network that knows nothing; 1: as near
    as real images. A missing distance leaves it without a value, with that distance's status and reason; null images
    that are no farther than real ones by 5 % of their distance make it 'undefined'.
    """
    n = found.n
    for what, m in (("", found), ("on the untrained network: ", null), ("real images: ", real)):
        if m.value is None:
            return without_value(name, n, "fraction", DIRECTION, m.status, f"{what}{m.reason}")
    assert found.value is not None
    assert null.value is not None
    assert real.value is not None
    length = null.value - real.value
    if length <= LEAST_SCALE * abs(null.value):
        why = f"the images from an untrained network are as near as real ones ({null.value:.3g}, {real.value:.3g})"
        return without_value(name, n, "fraction", DIRECTION, "undefined", why)
    share = (null.value - found.value) / length
    value = min(1.0, max(0.0, share))
    return Measurement(name=name, value=value, n=n, unit="fraction", direction=DIRECTION, unclipped=share)
