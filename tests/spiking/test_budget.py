"""Time is cut evenly, all of it, and within the memory there is."""

from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from audit.networks.vgg import vgg
from audit.spiking.budget import TimePlan, activation_sizes, plan_time
from audit.spiking.encoding import Encoder
from audit.spiking.neuron import LIF
from audit.spiking.twin import spiking_twin
from tests.networks.teachers import exact_snn, rand

untimed = settings(deadline=None, max_examples=60)


@untimed
@given(st.integers(1, 500), st.integers(-3, 600), st.booleans())
def test_chunks_are_even_and_add_up_and_the_longest_comes_last(steps: int, chunk: int, recompute: bool) -> None:
    plan = TimePlan.of(steps, chunk, recompute)
    assert sum(plan.chunks) == steps
    assert list(plan.chunks) == sorted(plan.chunks)
    assert plan.chunks[-1] - plan.chunks[0] <= 1
    assert 1 <= plan.chunks[-1] <= max(1, chunk)
    assert len(plan.chunks) == -(-steps // max(1, chunk)), "more chunks than it takes"
    assert plan.recompute == recompute


LAYERS, X = exact_snn().layers, rand(4, 2, 8, 8)
SIZES = activation_sizes(LAYERS, (2, 8, 8))
NEURONS = len(X) * sum(SIZES[name] for name, layer in LAYERS.named_children() if isinstance(layer, LIF))
WIDEST = len(X) * max(2 * 8 * 8, *SIZES.values())


def bytes_needed(plan: TimePlan, steps: int, gradient: bool) -> int:
    """The model in `plan_time`: docstring and, for what is computed twice, the comment."""
    if not gradient:
        return 3 * 4 * WIDEST * plan.chunks[-1] + 4 * NEURONS
    if plan.recompute:
        return 4 * NEURONS * len(plan.chunks) + (5 * NEURONS + 4 * WIDEST) * plan.chunks[-1]
    return 5 * NEURONS * steps + 12 * 4 * WIDEST * plan.chunks[-1]


@untimed
@given(st.integers(1, 200), st.booleans(), st.integers(0, 10**8))
def test_a_plan_keeps_to_its_memory_or_is_the_smallest_there_is(steps: int, gradient: bool, memory: int) -> None:
    plan = plan_time(LAYERS, X, steps, gradient, memory)
    assert sum(plan.chunks) == steps
    needed = bytes_needed(plan, steps, gradient)
    if needed <= memory:
        return
    others = [TimePlan.of(steps, chunk, gradient) for chunk in range(1, steps + 1)]
    least = min(bytes_needed(other, steps, gradient) for other in others)
    assert plan.recompute == gradient
    assert needed <= 1.1 * least, "over the budget, and another cut of time would have taken less"


def test_more_memory_never_makes_shorter_chunks_and_enough_of_it_computes_nothing_twice() -> None:
    for gradient in (True, False):
        plans = [plan_time(LAYERS, X, 50, gradient, memory) for memory in (0, 10**6, 10**7, 10**9)]
        assert plans[0].recompute == gradient
        assert not plans[-1].recompute
        assert plans[-1].chunks == (50,)
        assert [len(plan.chunks) for plan in plans] == sorted((len(plan.chunks) for plan in plans), reverse=True)


NETWORKS = {
    "vgg": (vgg("vgg9", (3, 16, 16), 10, width=0.1), (3, 16, 16)),
    "odd": (
        nn.Sequential(
            OrderedDict(
                a=nn.Conv2d(2, 5, (3, 2), stride=(2, 1), padding=(0, 1)), b=nn.ReLU(), c=nn.AvgPool2d(3, 2, 1),
                d=nn.Dropout(), e=nn.Flatten(), f=nn.Linear(60, 7), g=nn.ReLU(), h=nn.Linear(7, 3),
            )
        ),
        (2, 11, 6),
    ),
    "linear": (nn.Sequential(nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 2)), (9,)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_sizes_are_those_of_a_real_forward_pass(name: str) -> None:
    ann, shape = NETWORKS[name]
    layers, h, expected = spiking_twin(ann, Encoder(), 3).layers, torch.zeros(1, *shape), {}
    for key, layer in layers.named_children():
        h = h if isinstance(layer, LIF) else layer(h)
        expected[key] = h.numel()
    assert activation_sizes(layers, shape) == expected


def test_a_padding_that_is_a_word_is_refused() -> None:
    with pytest.raises(ValueError, match="padding 'same' is not supported: give it as a number"):
        activation_sizes(nn.Sequential(nn.Conv2d(1, 1, 3, padding="same")), (1, 5, 5))


def test_dilated_convolutions_and_poolings_that_keep_the_rest_have_their_size() -> None:
    layers = nn.Sequential(nn.Conv2d(1, 1, 3, dilation=2), nn.AvgPool2d(2, ceil_mode=True))
    assert list(activation_sizes(layers, (1, 9, 9)).values()) == [25, 9]
