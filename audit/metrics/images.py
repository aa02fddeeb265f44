"""What a set of reconstructed images looks like to the auditor's evaluator."""

from audit.metrics.accuracy import agreement
from audit.metrics.arrays import Array
from audit.records import Measurement

RECOGNISED = "recognised by the evaluator"


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
