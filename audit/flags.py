"""Findings that weaken a row of the tables, one documented line each."""

from collections.abc import Mapping

FLAGS: Mapping[str, str] = {
    "masked-gradients": (
        "the target answers to changes of the image that its own gradient does not show: attacks that follow that "
        "gradient say nothing here"
    ),
    "no-input-gradient": (
        "the coding has no gradient with respect to the image: direct attacks followed the gradient of its mean"
    ),
    "loss-does-not-fall": "steps along the target's own gradient do not raise the margin of the class",
    "eval-mode-gradient": "the gradient is there in train() and gone in eval()",
    "silent": "the target gives the same answer to every image",
    "black-box-beats-white-box": "an attack that sees answers only leaks more than every attack that holds the weights",
    "transfer-beats-direct": "reconverted to an ANN the target leaks more than through its own gradient",
    "did-not-beat-its-start": "the target finds the class no more in the finished images than in random ones",
    "prototypes-beat-reality": "the evaluators recognise the reconstructions more often than real images",
}
