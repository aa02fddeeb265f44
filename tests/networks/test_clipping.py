"""One image moves the sum of gradients by at most the clipping norm."""

import copy
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audit.networks import clipping
from audit.networks.clipping import clipped_gradient_sum
from tests.networks.teachers import TASK, generator, rand, small_ann, tiny_teacher


def labels(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 3, (count,), generator=generator(seed))


def one_by_one(network: nn.Sequential, x: Tensor, classes: Tensor, bound: float) -> list[Tensor]:
    """The definition: a pass of its own for every image."""
    total = [torch.zeros_like(parameter) for parameter in network.parameters()]
    for image, label in zip(x, classes, strict=True):
        loss = F.cross_entropy(network(image[None]), label[None])
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        norm = float(torch.cat([gradient.flatten() for gradient in gradients]).norm())
        for sum_, gradient in zip(total, gradients, strict=True):
            sum_ += gradient * min(1.0, bound / norm)
    return total


def difference(first: list[Tensor], second: list[Tensor]) -> float:
    return float(torch.cat([(a - b).flatten() for a, b in zip(first, second, strict=True)]).norm())


def geometries() -> nn.Sequential:
    """Strides, dilation, paddings that are not square, 'same', and biases; for images 2x9x9."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = OrderedDict(
            conv1=nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0)),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(3, 4, 3, dilation=2, padding=2, bias=False),
            relu2=nn.ReLU(),
            conv3=nn.Conv2d(4, 2, 2, padding="same"),
            flatten=nn.Flatten(),
            fc1=nn.Linear(80, 6),
            relu3=nn.ReLU(),
            fc2=nn.Linear(6, 3, bias=False),
        )
        return nn.Sequential(layers).eval()


@pytest.mark.parametrize("written_out", [0.0, 1e-9, 16.0, 1e9], ids=["ghost", "nearly ghost", "mixed", "written out"])
@pytest.mark.parametrize(
    ("make", "shape"), [(small_ann, (2, 6, 6)), (geometries, (2, 9, 9)), (tiny_teacher, (2, 8, 8))]
)
def test_the_sum_is_the_one_of_images_one_by_one(
    make: Callable[[], nn.Sequential], shape: tuple[int, ...], written_out: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clipping, "WRITTEN_OUT", written_out)
    monkeypatch.setattr(clipping, "AT_ONCE", 4)
    network, x, classes = make().double(), rand(10, *shape).double(), labels(10)
    unclipped = one_by_one(network, x[:1], classes[:1], 1e9)
    typical = difference(unclipped, [torch.zeros_like(part) for part in unclipped])
    for bound in (1e-3, typical, 1e9):
        expected = one_by_one(network, x, classes, bound)
        found = clipped_gradient_sum(network, x, classes, bound)
        assert difference(found, expected) < 1e-10


def test_one_image_more_moves_the_sum_by_at_most_the_bound() -> None:
    network, x, classes = tiny_teacher(), rand(12, *TASK.image_shape), labels(12)
    # An image far outside the range, of a class that the network finds impossible: the worst neighbour.
    x[11] *= 1000
    classes[11] = network(x[11:]).argmin()
    for bound in (0.01, 1.0):
        without = clipped_gradient_sum(network, x[:11], classes[:11], bound)
        moved = difference(clipped_gradient_sum(network, x, classes, bound), without)
        assert 0.99 * bound < moved < 1.001 * bound
    plain = difference(one_by_one(network, x[11:], classes[11:], 1e9), [0 * part for part in without])
    assert plain > 100


def test_no_image_gives_a_sum_of_0() -> None:
    network = small_ann()
    found = clipped_gradient_sum(network, rand(0, 2, 6, 6), labels(0), 1.0)
    assert [part.shape for part in found] == [parameter.shape for parameter in network.parameters()]
    assert not any(part.any() for part in found)


def test_the_network_is_left_as_it_was() -> None:
    network = small_ann()
    before = copy.deepcopy(network.state_dict())
    clipped_gradient_sum(network, rand(5, 2, 6, 6), labels(5), 1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_opacus_computes_the_same_sum() -> None:
    opacus = pytest.importorskip("opacus", reason="the oracle is the package opacus")
    network, x, classes = tiny_teacher().double(), rand(9, *TASK.image_shape).double(), labels(9)
    bare = nn.Sequential(*(layer for layer in copy.deepcopy(network) if not isinstance(layer, nn.Dropout)))
    wrapped = opacus.GradSampleModule(bare.train(), loss_reduction="sum")
    F.cross_entropy(wrapped(x), classes, reduction="sum").backward()
    samples = [parameter.grad_sample for parameter in wrapped.parameters()]
    norms = sum(sample.flatten(1).square().sum(1) for sample in samples).sqrt()
    bound = float(norms.median())
    expected = [torch.tensordot((bound / norms).clamp(max=1), sample, dims=1) for sample in samples]
    assert difference(clipped_gradient_sum(network, x, classes, bound), expected) < 1e-10
