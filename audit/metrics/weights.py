"""How much of the teacher is in a recovered network: weights, representations, and the path between the two."""

import math
from copy import deepcopy

import torch
from torch import Tensor, nn

from audit.metrics.accuracy import accuracy
from audit.metrics.statistics import t_interval, without_value
from audit.records import Direction, Measurement

POINTS = 11
MORE: Direction = "higher means more leakage"
LESS: Direction = "lower means more leakage"


def compare_networks(
    recovered: nn.Sequential, teacher: nn.Sequential, images: Tensor, labels: Tensor
) -> tuple[Measurement, ...]:
    """A recovered ANN beside the teacher; ``images`` [N, C, H, W] held out, in the input range, ``labels`` int [N].

    Over the weight layers in order, as means with a t interval over layers: the cosine of their weights and the
    relative distance |W_r - W_t| / |W_t|; linear CKA of the inputs of the last layer (Kornblith et al., ICML 2019),
    0..1; the barrier on the straight line between the two, the largest rise of the error above the line between the
    ends' errors, in points of fraction from 0 (Frankle et al., ICML 2020: near 0, they share a basin); the accuracy of
    the recovered network. 'not-applicable' where the weight layers are not the teacher's in number and shape.
    """
    own, theirs = _weights(recovered), _weights(teacher)
    if [w.shape for w in own] != [w.shape for w in theirs]:
        why = "the recovered network's weight layers are not those of the teacher in number and shape"
        absent = [("weight cosine", MORE), ("relative weight distance", LESS), ("interpolation barrier", LESS)]
        pairwise = [without_value(name, 0, "", direction, "not-applicable", why) for name, direction in absent]
    else:
        cosines = [
            float(nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)) for a, b in _zip(own, theirs)
        ]
        distances = [float((a - b).norm() / b.norm()) for a, b in _zip(own, theirs)]
        pairwise = [
            _over_layers("weight cosine", cosines, MORE),
            _over_layers("relative weight distance", distances, LESS),
            _barrier(own, teacher, images, labels),
        ]
    return (*pairwise, _cka(recovered, teacher, images), _accuracy(recovered, images, labels))


def linear_cka(first: Tensor, second: Tensor) -> float:
    """|Y^T X|_F^2 / (|X^T X|_F |Y^T Y|_F) of centred features [N, D] and [N, E]; 0 where one does not vary."""
    x, y = (rows.double() - rows.double().mean(0) for rows in (first, second))
    own = (x.T @ x).norm() * (y.T @ y).norm()
    return float((y.T @ x).square().sum() / own) if own > 0 else 0.0


def _weights(network: nn.Sequential) -> list[Tensor]:
    layers = (layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
    return [layer.weight.detach() for layer in layers]


def _zip(own: list[Tensor], theirs: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return [(a.to(b.device), b) for a, b in zip(own, theirs, strict=True)]


def _over_layers(name: str, values: list[float], direction: Direction) -> Measurement:
    if not all(math.isfinite(value) for value in values):
        return without_value(
            name, len(values), "", direction, "undefined", "a layer's weights are too large to compare"
        )
    low, high = t_interval(values) if len(values) > 1 else (None, None)
    return Measurement(
        name=name, value=sum(values) / len(values), low=low, high=high,
        interval="Student t 95 % over layers" if len(values) > 1 else None, n=len(values), unit="", direction=direction,
    )  # fmt: skip


@torch.no_grad()
def _barrier(own: list[Tensor], teacher: nn.Sequential, images: Tensor, labels: Tensor) -> Measurement:
    between = deepcopy(teacher)
    layers = [layer for layer in between.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    errors = []
    for step in range(POINTS):
        share = step / (POINTS - 1)
        for layer, (mine, theirs) in zip(layers, _zip(own, _weights(teacher)), strict=True):
            layer.weight.copy_(torch.lerp(theirs, mine, share))
        predictions = torch.cat([between(x).argmax(1).cpu() for x in images.split(250)])
        errors.append(float((predictions != labels).double().mean()))
    chord = [errors[0] + (errors[-1] - errors[0]) * step / (POINTS - 1) for step in range(POINTS)]
    value = max(error - level for error, level in zip(errors, chord, strict=True))
    return Measurement(
        name="interpolation barrier", value=value, n=len(labels), unit="fraction", direction=LESS,
        reason=f"largest of {POINTS} points on the line, errors of the ends {errors[0]:.3f} and {errors[-1]:.3f}",
    )  # fmt: skip


@torch.no_grad()
def _cka(recovered: nn.Sequential, teacher: nn.Sequential, images: Tensor) -> Measurement:
    features = [torch.cat([network[:-1](x).cpu() for x in images.split(250)]) for network in (recovered, teacher)]
    name, n = "linear CKA with the teacher", len(images)
    if not all(torch.isfinite(rows).all() for rows in features):
        return without_value(name, n, "", MORE, "undefined", "features that are not finite")
    return Measurement(name=name, value=linear_cka(*features), n=n, unit="", direction=MORE)


@torch.no_grad()
def _accuracy(recovered: nn.Sequential, images: Tensor, labels: Tensor) -> Measurement:
    logits = torch.cat([recovered(x).cpu() for x in images.split(250)])
    return accuracy("accuracy of the recovered network", logits, labels).model_copy(update={"direction": MORE})
