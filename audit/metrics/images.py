"""What a set of reconstructed images looks like to the auditor's evaluator."""

from collections.abc import Sequence

from audit.metrics.accuracy import agreement
from audit.metrics.arrays import Array
from audit.metrics.statistics import without_value
from audit.records import Measurement

RECOGNISED = "recognised by the evaluator"
RELATIVE = "recognised, relative to real images"


def recognised(predictions: Array, labels: Array, name: str = RECOGNISED) -> Measurement:
    """The fraction of images that the evaluator assigns to the class they claim; higher means more leakage.

    ``predictions``: the evaluator's, int [N], or its logits, float [N, C]. ``labels``: the claimed classes, int [N].
    In [0, 1], chance is about 1/C, with a 95 % Wilson interval. No images: 'insufficient'.

    No leakage measure alone: an attack climbs a class logit, and what climbs one network's logit often climbs
    another's, so images that show nothing of the private data can be recognised more often than real ones are. Read it
    beside a distance to real images, and beside the same number for real images and for noise.
    The interval takes the images as independent; images of one class from one optimisation are less so.
    Raises ValueError as `audit.metrics.accuracy.accuracy` does.
    """
    return agreement(name, predictions, labels, "higher means more leakage")


def relative_to_real(
    found: Sequence[Array], labels: Array, real: Sequence[Array], real_labels: Array, name: str = RELATIVE
) -> Measurement:
    """The rate of recognition over that of held-out real images, averaged over the evaluators; from 0, 1 as for real.

    ``found`` and ``real``: per evaluator its logits float [N, C] for reconstructions and [M, C] for real images. Above
    1 the reason says so: then the images are prototypes that beat reality, and recognition is no leakage measure.
    An evaluator that recognises no real image makes it 'undefined'. No interval: a ratio of rates on two sets.
    """
    ratios: list[float] = []
    for mine, theirs in zip(found, real, strict=True):
        rates = agreement("", mine, labels, "neutral"), agreement("", theirs, real_labels, "neutral")
        if any(rate.value is None for rate in rates) or not rates[1].value:
            why = (
                "an evaluator recognises no real image"
                if rates[1].value == 0
                else str(rates[0].reason or rates[1].reason)
            )
            return without_value(name, len(labels), "ratio", "higher means more leakage", "undefined", why)
        ratios.append(float(rates[0].value or 0.0) / rates[1].value)
    value = sum(ratios) / len(ratios)
    return Measurement(
        name=name,
        value=value,
        n=len(labels),
        unit="ratio",
        direction="higher means more leakage",
        reason="prototypes beat reality: recognised more often than real images" if value > 1 else None,
    )
