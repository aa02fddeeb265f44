"""NIR in and out: the same spikes, and other libraries' files as these libraries compute them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from audit.errors import AuditError
from audit.spiking.encoding import Encoder
from audit.spiking.files import describe
from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import Reset
from audit.spiking.nir import Discretisation
from audit.spiking.nir_export import to_nir, write_nir
from audit.spiking.strangers import Expected
from tests.networks.teachers import TASK, exact_snn, rand, small_snn, tiny_target
from tests.oracles.peers import snntorch, spikingjelly
from tests.spiking.nir_graphs import (
    HOW,
    SHAPE,
    content,
    graph,
    lif,
    logits,
    nir,
    numbers,
    pool,
    read,
    small_nodes,
    spikes,
    spiking,
)


@pytest.mark.parametrize("dt", [1e-4, 1e-3, 1.0])
@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (tiny_target("rate"), TASK.image_shape),
        (small_snn(leak=0.9), SHAPE),
        (small_snn("direct", leak=0.37, reset="hard", dropout=0.2), SHAPE),
        (small_snn(leak=0.0, reset="hard"), SHAPE),
        (exact_snn(per_channel=True), TASK.image_shape),
        (exact_snn(leak=0.8, per_channel=True), TASK.image_shape),
    ],
    ids=["VGG5", "leak", "hard", "no memory", "per channel", "leak per channel"],
)
def test_a_network_through_a_nir_file_has_the_same_spikes(
    network: SpikingNetwork, shape: tuple[int, int, int], dt: float, tmp_path: Path
) -> None:
    network.output_scale.fill_(0.3)
    write_nir(network, tmp_path / "network.nir", shape, dt)
    how = Discretisation(network.encoder, network.time_steps, dt)
    again = read((tmp_path / "network.nir").read_bytes(), how, Expected(shape, 3))
    x = rand(4, *shape)
    ours, theirs = spikes(network, x), spikes(again, x)
    assert all(0 < spike.mean() < 1 for spike in ours), "the test says nothing about neurons that always or never fire"
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert torch.equal(logits(network, x), logits(again, x))
    kept = [layer for layer in describe(network)["layers"] if layer["type"] != "Dropout"]
    assert [(layer["name"], layer["type"]) for layer in describe(again)["layers"]] == [
        (layer["name"], layer["type"]) for layer in kept
    ]


def test_what_we_write_nir_itself_reads_and_finds_consistent(tmp_path: Path) -> None:
    write_nir(small_snn(leak=0.9, dropout=0.1), tmp_path / "network.nir", SHAPE)
    found = nir.read(tmp_path / "network.nir")
    assert found.check_types()
    kinds = [type(found.nodes[name]).__name__ for name, _ in found.edges]
    assert kinds == ["Input", "Conv2d", "LIF", "Conv2d", "LIF", "AvgPool2d", "Flatten", "Affine"]
    assert found.nodes["relu1"].metadata == {"reset": "soft"}


def test_a_graph_is_read_from_memory_as_from_its_file() -> None:
    built, x = to_nir(small_snn("direct"), SHAPE), rand(2, *SHAPE)
    how = replace(HOW, dt=1e-4)
    assert torch.equal(logits(read(built, how), x), logits(read(content(built), how), x))


def by_hand(nodes: dict[str, Any], x: Tensor, steps: int, dt: float) -> Tensor:
    """NIR's differential equations by Euler's method, in double precision and in the file's own units."""
    potential: dict[str, Any] = {}
    total: Any = 0.0
    for _ in range(steps):
        h = x.double()
        for name, node in nodes.items():
            match node:
                case nir.Conv2d():
                    h = nn.functional.conv2d(h, torch.tensor(node.weight).double(), padding=1)
                case nir.Linear() | nir.Affine():
                    bias = torch.tensor(getattr(node, "bias", 0.0)).double()
                    h = h @ torch.tensor(node.weight).double().T + bias
                case nir.AvgPool2d():
                    h = nn.functional.avg_pool2d(h, 2)
                case nir.SumPool2d():
                    h = nn.functional.avg_pool2d(h, 2, divisor_override=1)
                case nir.Flatten():
                    h = h.flatten(1)
                case nir.IF() | nir.LIF():
                    v = potential.get(name, torch.zeros_like(h))
                    r, threshold = torch.tensor(node.r), torch.tensor(node.v_threshold)
                    if isinstance(node, nir.IF):
                        v = v + dt * r * h
                    else:
                        v = v + dt / torch.tensor(node.tau) * (0 - v + r * h)
                    h = (v > threshold).double()
                    potential[name] = torch.where(v > threshold, 0.0, v)
        total = total + h
    return total


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"lif1": lif(4, 6, 6, r=1.0), "lif2": lif(5, r=3.0, tau=1.0)},
        {"lif1": spiking(4, 6, 6), "lif2": spiking(5, r=0.5, v_threshold=0.2)},
        {"pool": pool(nir.SumPool2d)},
        {"lif1": lif(4, 6, 6, tau=0.5)},
        {"lif1": lif(1, v_threshold=0.3)},
        {"fc": nir.Linear(numbers(3, 5))},
    ],
    ids=["LIF", "resistance", "IF", "sum pooling", "tau = dt", "one for all", "no bias"],
)  # fmt: skip
def test_a_graph_computes_what_euler_s_method_does_with_its_equations(changed: dict[str, Any]) -> None:
    nodes, x = small_nodes(**changed), rand(4, *SHAPE)
    network = read(content(graph(nodes)))
    assert 0 < float(spikes(network, x)[-1].mean()) < 1
    torch.testing.assert_close(logits(network, x).double(), by_hand(nodes, x, 8, 0.5), rtol=1e-5, atol=1e-5)


def test_a_sum_pooling_before_a_neuron_divides_its_threshold() -> None:
    nodes = small_nodes()
    sums = {"pool": pool(nir.SumPool2d), "fire": lif(4, 3, 3, v_threshold=2.0)}
    names = ["in", "conv", "lif1", *sums, "flat", "hidden", "lif2", "fc", "out"]
    nodes = {name: {**nodes, **sums}[name] for name in names}
    network, x = read(graph(nodes)), rand(4, *SHAPE)
    assert float(network.neurons["fire"].threshold) == 0.5
    torch.testing.assert_close(logits(network, x).double(), by_hand(nodes, x, 8, 0.5), rtol=1e-5, atol=1e-5)


def test_a_nested_graph_is_laid_out_flat() -> None:
    flat = small_nodes()
    inner = {"in": nir.Input(np.array([4, 3, 3])), "flat": flat["flat"], "hidden": flat["hidden"]}
    inner |= {"lif2": flat["lif2"], "out": nir.Output(np.array([5]))}
    names = ["in", "conv", "lif1", "pool"]
    nested = {name: flat[name] for name in names} | {"block.1": graph(inner), "fc": flat["fc"], "out": flat["out"]}
    x = rand(2, *SHAPE)
    network = read(content(graph(nested)))
    assert torch.equal(logits(network, x), logits(read(graph(flat)), x))
    assert "block_1_hidden" in dict(network.layers.named_children())


def test_an_input_that_is_flat_or_has_a_batch_of_one_takes_the_images() -> None:
    nodes = {"in": nir.Input(np.array([72])), "hidden": nir.Linear(numbers(5, 72)), "lif": lif(5)}
    nodes |= {"fc": nir.Linear(numbers(3, 5)), "out": nir.Output(np.array([3]))}
    x = rand(2, *SHAPE)
    expected = logits(read(graph(nodes)), x)
    torch.testing.assert_close(expected.double(), by_hand(nodes, x.flatten(1), 8, 0.5), rtol=1e-5, atol=1e-5)
    assert torch.equal(logits(read(graph({**nodes, "in": nir.Input(np.array([1, 72]))})), x), expected)


def test_names_that_no_layer_may_have_are_changed() -> None:
    nodes = small_nodes()
    renamed = dict(
        zip(["in", "0", "a.b", "a b", "forward", "train", "ü" * 90, "fc", "out"], nodes.values(), strict=True)
    )
    names = list(dict(read(content(graph(renamed))).layers.named_children()))
    assert names == ["0", "a_b", "a_b_0", "forward_0", "train_0", "_" * 40, "fc"]


@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_the_setting_says_how_neurons_reset_where_the_file_does_not(reset: Reset) -> None:
    said = lif(4, 6, 6)
    said.metadata["reset"] = "hard"
    network = read(content(graph(small_nodes(lif1=said))), replace(HOW, reset=reset))
    assert [neuron.reset for neuron in network.neurons.values()] == ["hard", reset]


def test_output_neurons_are_left_out_where_that_is_asked_for() -> None:
    nodes = small_nodes(lif3=lif(3))
    with pytest.raises(AuditError, match=r"node 'lif3' \(LIF\): the network ends in neurons"):
        read(graph(nodes))
    network, x = read(graph(nodes), replace(HOW, drop_output_neurons=True)), rand(2, *SHAPE)
    assert torch.equal(logits(network, x), logits(read(graph(small_nodes())), x))


def snntorch_network(mechanism: str, delay: bool) -> nn.Sequential:
    """Its exporter wants a beta and a threshold for every neuron; beta 0 rounds tau to dt."""
    library = snntorch()
    settings = {"init_hidden": True, "reset_mechanism": mechanism, "reset_delay": delay}
    neurons = [
        library.Leaky(torch.full(shape, beta), threshold=torch.full(shape, threshold), **settings)
        for shape, beta, threshold in [((6, 6, 6), 0.9, 1.0), ((10,), 0.45, 0.6), ((7,), 0.0, 0.4)]
    ]
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), neurons[0], nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(54, 10, bias=False), neurons[1], nn.Linear(10, 7), neurons[2], nn.Linear(7, 3),
    )  # fmt: skip


@pytest.mark.parametrize(("mechanism", "delay", "reset"), [("zero", True, "hard"), ("subtract", False, "soft")])
@torch.no_grad()
def test_a_file_of_snntorch_s_gives_snntorch_s_logits(mechanism: str, delay: bool, reset: Reset) -> None:
    """It writes either reset as the hard one: the setting says which it was."""
    export = pytest.importorskip("snntorch.export_nir", reason="the oracle needs snnTorch's exporter").export_to_nir
    network, x = snntorch_network(mechanism, delay), rand(5, *SHAPE)
    written = content(export(network, x[:1], ignore_dims=[0]))
    for layer in network:
        if hasattr(layer, "reset_mem"):
            layer.reset_mem()
    theirs = torch.stack([network(x) for _ in range(20)]).sum(0)
    ours = read(written, Discretisation(Encoder("direct"), 20, reset=reset))
    assert [neuron.leak for neuron in ours.neurons.values()] == pytest.approx([0.9, 0.45, 0.0], abs=1e-6)
    assert [float(neuron.threshold) for neuron in ours.neurons.values()] == pytest.approx([1.0, 0.6, 0.4], abs=1e-7)
    assert theirs.std() > 0.5, "the test says nothing about a network that is silent"
    torch.testing.assert_close(logits(ours, x), theirs, rtol=1e-5, atol=1e-4)


def spikingjelly_model(kind: str) -> nn.Sequential:
    layer, neuron = spikingjelly("layer"), spikingjelly("neuron")

    def fire(threshold: float) -> nn.Module:
        if kind == "IF":
            return neuron.IFNode(v_threshold=threshold)
        return neuron.LIFNode(tau=2.5, decay_input=kind == "decaying input", v_threshold=threshold)

    torch.manual_seed(0)
    return nn.Sequential(
        layer.Conv2d(2, 6, 3, padding=1, bias=False), fire(0.5), layer.AvgPool2d(2), layer.Flatten(),
        layer.Linear(54, 10), fire(0.3), layer.Linear(10, 3),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "leak", "threshold"), [("IF", 1.0, 0.5), ("LIF", 0.6, 0.5), ("decaying input", 0.6, 1.25)]
)
@torch.no_grad()
def test_a_file_of_spikingjelly_s_gives_spikingjelly_s_logits(
    kind: str, leak: float, threshold: float, tmp_path: Path
) -> None:
    """A decaying input counts by 1 / tau, which is in the threshold here."""
    network, x = spikingjelly_model(kind), rand(5, *SHAPE)
    spikingjelly("nir_exchange").export_to_nir(network, x, save_path=tmp_path / "network.nir")
    theirs = torch.stack([network(x) for _ in range(20)]).sum(0)
    ours = read((tmp_path / "network.nir").read_bytes(), Discretisation(Encoder("direct"), 20))
    assert (ours.layers[1].leak, float(ours.layers[1].threshold)) == (leak, threshold)
    assert theirs.std() > 0.5, "the test says nothing about a network that is silent"
    torch.testing.assert_close(logits(ours, x), theirs, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("leak", [1.0, 0.9])
@torch.no_grad()
def test_spikingjelly_reads_what_we_write(leak: float, tmp_path: Path) -> None:
    network, x = small_snn("direct", leak=leak, reset="hard"), rand(5, *SHAPE)
    write_nir(network, tmp_path / "network.nir", SHAPE)
    theirs = spikingjelly("nir_exchange").import_from_nir(tmp_path / "network.nir")
    state, total = None, torch.zeros(5, 3)
    for _ in range(network.time_steps):
        out, state = theirs(x, state)
        total += out
    torch.testing.assert_close(logits(network, x), total, rtol=1e-5, atol=1e-5)
