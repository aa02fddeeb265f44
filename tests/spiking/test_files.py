"""A stored network is the network, and nothing but numbers and names is ever loaded."""

import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from audit.spiking.encoding import Encoder
from audit.spiking.files import build, describe, load_network, save_network, weights
from audit.spiking.network import SpikingNetwork
from audit.spiking.surrogate import Surrogate
from audit.spiking.twin import spiking_twin
from tests.networks.teachers import generator, rand, small_ann, small_snn, tiny_target, tiny_teacher

X = rand(3, 2, 6, 6)


def unusual_snn() -> SpikingNetwork:
    """Every setting away from its default."""
    surrogate = Surrogate("arctan", 2.0, 0.3, per_threshold=True)
    network = spiking_twin(small_ann(dropout=0.4), Encoder("rate"), 11, leak=0.9, reset="hard", surrogate=surrogate)
    for neuron in network.neurons.values():
        neuron.threshold = torch.tensor([0.2, 0.25, 0.3, 0.5]).view(4, 1, 1)
    network.output_scale.fill_(0.7)
    return network.eval()


def test_a_stored_spiking_network_gives_the_same_bits_and_the_same_gradient(tmp_path: Path) -> None:
    network, results = unusual_snn(), []
    save_network(network, tmp_path / "n.safetensors")
    for each in (network, load_network(tmp_path / "n.safetensors")):
        x = X.clone().requires_grad_()
        logits = each(x, generator(1))
        logits[:, 0].sum().backward()
        assert x.grad is not None
        results.append((logits, x.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert results[0][1].count_nonzero() > 0


def test_a_stored_ann_gives_the_same_bits(tmp_path: Path) -> None:
    teacher, x = tiny_teacher(), rand(3, 2, 8, 8)
    save_network(teacher, tmp_path / "n.safetensors")
    loaded = load_network(tmp_path / "n.safetensors")
    assert isinstance(loaded, nn.Sequential)
    assert [name for name, _ in loaded.named_children()] == [name for name, _ in teacher.named_children()]
    assert torch.equal(loaded(x), teacher(x))


@pytest.mark.parametrize("network", [unusual_snn(), small_snn("direct"), tiny_teacher()])
def test_a_network_built_from_its_description_has_that_description(network: nn.Module) -> None:
    assert describe(build(describe(network), weights(network))) == describe(network)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.AvgPool2d(3, stride=2, padding=1)],
        [nn.AvgPool2d(4, ceil_mode=True)],
        [nn.AvgPool2d(3, padding=1, count_include_pad=False)],
        [nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(0, 1))],
        [nn.Conv2d(2, 2, 3, padding="same")],
        [nn.Flatten(2)],
        [act := nn.ReLU(), nn.Conv2d(2, 2, 3), act],
    ],
)
def test_no_setting_of_a_layer_is_lost(layers: list[nn.Module], tmp_path: Path) -> None:
    network = nn.Sequential(*layers).eval()
    save_network(network, tmp_path / "n.safetensors")
    assert torch.equal(load_network(tmp_path / "n.safetensors")(X), network(X))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 3, groups=2),
        nn.Conv2d(2, 2, 3, dilation=2),
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"),
        nn.AvgPool2d(2, divisor_override=3),
        nn.MaxPool2d(2),
        nn.Sequential(nn.ReLU()),
    ],
)
def test_a_layer_that_cannot_be_described_is_named_and_nothing_is_written(layer: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="layer 'odd'"):
        save_network(nn.Sequential(OrderedDict(odd=layer)), tmp_path / "n.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_do_not_fit_are_refused() -> None:
    network = small_snn()
    description, tensors = describe(network), weights(network)
    missing = {name: tensor for name, tensor in tensors.items() if name != "layers.conv1.weight"}
    wrong_shape = tensors | {"layers.fc.weight": torch.zeros(3, 35)}
    surplus = tensors | {"layers.fc.extra": torch.zeros(1)}
    without_threshold = {name: tensor for name, tensor in tensors.items() if not name.endswith("relu2.threshold")}
    for wrong in (missing, wrong_shape, surplus, without_threshold, {}):
        with pytest.raises(ValueError, match="weights do not fit the described network"):
            build(description, wrong)


def test_a_loaded_network_shares_nothing_with_the_tensors_it_came_from() -> None:
    network = small_snn("direct")
    tensors = weights(network)
    built = build(describe(network), tensors)
    before = built(X)
    for tensor in tensors.values():
        tensor.fill_(9.0)
    assert torch.equal(built(X), before)


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("something was unpickled")

    path = tmp_path / "n.safetensors"
    save_network(tiny_target(), path)
    monkeypatch.setattr(torch, "load", forbidden)
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, forbidden)
    load_network(path)
    torch.save({"layers": small_ann()}, path)
    with pytest.raises(SafetensorError):
        load_network(path)
