"""NIR in and out: the same spikes, other libraries' files as these libraries compute them, and refusals that name the
node."""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from audit.errors import AuditError
from audit.spiking import nir_chain
from audit.spiking.encoding import Encoder
from audit.spiking.files import describe
from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF, Reset
from audit.spiking.nir import Discretisation, read_nir
from audit.spiking.nir_export import to_nir, write_nir
from audit.spiking.strangers import Expected
from tests.networks.teachers import TASK, exact_snn, generator, rand, small_snn, tiny_target
from tests.oracles.peers import snntorch, spikingjelly

nir = pytest.importorskip("nir", reason="NIR files need the package nir")
h5py = pytest.importorskip("h5py", reason="NIR files need the package h5py")

SHAPE = (2, 6, 6)
EXPECTED = Expected(SHAPE, 3)
HOW = Discretisation(Encoder("direct"), 8, dt=0.5)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Multiples of 1/64 in [-0.5, 0.5], for exact sums."""
    return np.random.default_rng(seed).integers(-32, 33, shape).astype(np.float32) / 64


def lif(*shape: int, **changed: Any) -> Any:
    """A LIF with leak 0.75 at dt 0.5, whose currents count as they are."""
    values = {"tau": 2.0, "r": 4.0, "v_leak": 0.0, "v_threshold": 0.7, "v_reset": 0.0, **changed}
    return nir.LIF(**{name: np.full(shape, value) for name, value in values.items()})


def spiking(*shape: int, **changed: Any) -> Any:
    """An IF whose currents count as they are at dt 0.5."""
    values = {"r": 2.0, "v_threshold": 0.7, "v_reset": 0.0, **changed}
    return nir.IF(**{name: np.full(shape, value) for name, value in values.items()})


def conv(**changed: Any) -> Any:
    settings = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1, "bias": np.zeros(4, np.float32), **changed}
    return nir.Conv2d(input_shape=(6, 6), **{"weight": numbers(4, 2, 3, 3), **settings})


def pool(kind: Any) -> Any:
    return kind(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))


def small_nodes(**changed: Any) -> dict[str, Any]:
    """A network for images 2x6x6 and three classes; ``changed`` nodes take their place, or come in before the end."""
    nodes = {
        "in": nir.Input(np.array(SHAPE)),
        "conv": conv(),
        "lif1": lif(4, 6, 6),
        "pool": pool(nir.AvgPool2d),
        "flat": nir.Flatten(np.array([4, 3, 3]), 0, -1),
        "hidden": nir.Linear(numbers(5, 36)),
        "lif2": lif(5),
        "fc": nir.Affine(numbers(3, 5), numbers(3)),
    }
    return {**nodes, **changed, "out": nir.Output(np.array([3]))}


def graph(nodes: dict[str, Any], more: Sequence[tuple[str, str]] = ()) -> Any:
    """A chain of the nodes, with more edges."""
    names = list(nodes)
    return nir.NIRGraph(nodes, [*pairwise(names), *more], type_check=False)


def content(built: Any, change: Callable[[Any], object] = lambda file: None) -> bytes:
    """The bytes of the graph's file, changed in place."""
    file = io.BytesIO()
    nir.write(file, built)
    with h5py.File(file, "r+") as opened:
        change(opened)
    return file.getvalue()


def read(source: Any, how: Discretisation = HOW, expected: Expected = EXPECTED) -> SpikingNetwork:
    return read_nir(source, "model.nir", expected, how)


def logits(network: SpikingNetwork, x: Tensor) -> Tensor:
    return network(x, generator())


@torch.no_grad()
def spikes(network: SpikingNetwork, x: Tensor) -> list[Tensor]:
    """Of every neuron layer, at every time-step, in the order of the layers."""
    h = network.encoder(x, network.time_steps, generator(), 0, network.time_steps).flatten(0, 1)
    found = []
    for layer in network.layers:
        h = layer(h.unflatten(0, (-1, len(x))))[0].flatten(0, 1) if isinstance(layer, LIF) else layer(h)
        found += [h] if isinstance(layer, LIF) else []
    return found


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


def different(*shape: int, first: float, others: float) -> np.ndarray:
    values = np.full(shape, others)
    values.flat[0] = first
    return values


def per_neuron(field: str, values: np.ndarray) -> Any:
    node = lif(4, 6, 6)
    setattr(node, field, values)
    return node


def said_reset(reset: str) -> Any:
    node = lif(5)
    node.metadata["reset"] = reset
    return node


CUBA = {name: np.full((5,), 1.0) for name in ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset")}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "CubaLIF": ({"lif2": nir.CubaLIF(**CUBA)}, r"'lif2' \(CubaLIF\): a network is audited of Input, Conv2d"),
    "Scale": ({"pool": nir.Scale(np.ones(4))}, r"'pool' \(Scale\): a network"),
    "Delay": ({"pool": nir.Delay(np.ones(4))}, r"'pool' \(Delay\): a network"),
    "Threshold": ({"lif2": nir.Threshold(np.ones(5))}, r"'lif2' \(Threshold\): a network"),
    "LI": ({"li": nir.LI(*[np.ones(3)] * 3)}, r"'li' \(LI\): a network"),
    "v_leak": ({"lif2": lif(5, v_leak=0.1)}, r"'lif2' \(LIF\), field 'v_leak': it is not 0 everywhere"),
    "v_reset": ({"lif2": spiking(5, v_reset=-0.1)}, r"'lif2' \(IF\), field 'v_reset': it is not 0 everywhere"),
    "r": ({"lif2": lif(5, r=-1.0)}, r"'lif2' \(LIF\), field 'r': it is not above 0"),
    "infinite tau": ({"lif2": lif(5, tau=np.inf)}, r"'lif2' \(LIF\), field 'tau': it has values that are not finite"),
    "short tau": ({"lif2": lif(5, tau=0.1)}, r"'lif2' \(LIF\), field 'tau': 0.1 is below the time-step dt = 0.5"),
    "two taus": (
        {"lif1": per_neuron("tau", different(4, 6, 6, first=3.0, others=2.0))},
        r"'lif1' \(LIF\), field 'tau': it differs between neurons",
    ),
    "threshold of 0": ({"lif2": lif(5, v_threshold=0.0)}, r"'lif2' .* field 'v_threshold': it is not above 0"),
    "threshold of NaN": ({"lif2": lif(5, v_threshold=np.nan)}, r"'lif2' .* field 'v_threshold': .* not finite"),
    "thresholds within a channel": (
        {"lif1": per_neuron("v_threshold", different(4, 6, 6, first=3.0, others=2.0))},
        r"'lif1' \(LIF\), field 'v_threshold': it differs within a channel",
    ),
    "neurons of another shape": (
        {"lif1": per_neuron("v_threshold", np.linspace(1, 2, 6))},
        r"'lif1' \(LIF\), field 'v_threshold': it is \(6,\) for neurons \(4, 6, 6\)",
    ),
    "an odd reset": ({"lif2": said_reset("never")}, r"'lif2' .* field 'metadata': its reset is 'soft' or 'hard'"),
    "weights of NaN": (
        {"hidden": nir.Linear(np.full((5, 36), np.nan))}, r"'hidden' \(Linear\), field 'weight': .* not finite",
    ),
    "weights beyond float32": (
        {"hidden": nir.Linear(np.full((5, 36), 1e300))}, r"'hidden' .* field 'weight': it has values beyond float32",
    ),
    "a bias of infinity": (
        {"fc": nir.Affine(numbers(3, 5), np.full(3, np.inf))}, r"'fc' \(Affine\), field 'bias': .* not finite",
    ),
    "groups": ({"conv": conv(groups=2)}, r"'conv' \(Conv2d\), field 'groups': it is \(2,\)"),
    "dilation": ({"conv": conv(dilation=2)}, r"'conv' \(Conv2d\), field 'dilation': it is \(2, 2\)"),
    "no stride": (
        {"pool": nir.AvgPool2d(*np.array([[2, 2], [0, 0], [0, 0]]))},
        r"'pool' \(AvgPool2d\): it does not fit what it is given, 4 x 6 x 6: .*stride",
    ),
    "padding": ({"conv": conv(stride=2, padding="same")}, r"'conv' \(Conv2d\), field 'padding': 'same' is audited"),
    "other channels": (
        {"conv": conv(weight=numbers(4, 3, 3, 3))}, r"'conv' .* field 'weight': it is \(4, 3, 3, 3\), and .* 2 x 6 x 6",
    ),
    "no flattening": (
        {"flat": nir.Flatten(np.array([4, 3, 3]), 1, -1)}, r"'flat' \(Flatten\): it flattens 1 to -1 of 3 dimensions",
    ),
    "other features": ({"hidden": nir.Linear(numbers(5, 35))}, r"'hidden' .* it is \(5, 35\), and .* given 36"),
    "other images": (
        {"in": nir.Input(np.array([3, 6, 6]))},
        r"'in' \(Input\), field 'shape': the network takes \(3, 6, 6\), and the images are \(2, 6, 6\)",
    ),
    "other classes": ({"fc": nir.Linear(numbers(4, 5))}, r"'fc' \(Linear\): it gives 4 for an image, .* 3 classes"),
    "a scale below 0": (
        {"out": nir.Output(np.array([3]), metadata={"output_scale": -1.0})}, r"'out' .* output_scale is one number",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_represented_is_refused_by_the_name_of_its_node(kind: str) -> None:
    changed, reason = REFUSED[kind]
    nodes = small_nodes()
    for name, node in changed.items():
        nodes = {**nodes, name: node}
    nodes["out"] = nodes.pop("out")
    with pytest.raises(AuditError, match=f"^model.nir: node {reason}") as refused:
        read(content(graph(nodes)))
    assert "\n" not in str(refused.value)


def test_a_sum_pooling_that_nothing_follows_is_refused() -> None:
    nodes = small_nodes()
    nodes = {name: nodes[name] for name in ("in", "conv", "lif1")} | {
        "classes": nir.Conv2d((6, 6), numbers(3, 4, 5, 5), 1, 0, 1, 1, np.zeros(3)),
        "sum": pool(nir.SumPool2d),
        "flat": nir.Flatten(np.array([3, 1, 1]), 0, -1),
        "out": nodes["out"],
    }
    with pytest.raises(AuditError, match=r"node 'flat' \(Flatten\): a sum pooling is followed by no layer"):
        read(graph(nodes))


def test_a_network_without_neurons_is_none() -> None:
    nodes = {"in": nir.Input(np.array([72])), "fc": nir.Linear(numbers(3, 72)), "out": nir.Output(np.array([3]))}
    with pytest.raises(AuditError, match=r"node 'in' \(Input\): no neurons follow it"):
        read(graph(nodes))


GRAPHS: dict[str, tuple[list[tuple[str, str]], dict[str, Any], str]] = {
    "a branch": ([("lif1", "side")], {}, r"node 'lif1' \(LIF\): it branches: its output goes to 'pool' and 'side'"),
    "a skip": ([("pool", "hidden")], {}, r"node 'pool' .*: it branches: its output goes to 'flat' and 'hidden'"),
    "a join": ([("side", "fc")], {}, r"node 'fc' \(Affine\): it joins: its input comes from 'lif2' and 'side'"),
    "a recurrence": ([("lif2", "hidden")], {}, r"node 'hidden' .*: it is recurrent: .* back from 'lif2'"),
    "a neuron to itself": ([("lif2", "lif2")], {}, r"node 'lif2' .*: it is recurrent: .* back from 'lif2'"),
    "an edge given twice": ([("lif2", "fc")], {}, r"node 'lif2' .*: it branches: its output goes to 'fc' and 'fc'"),
    "an edge from nowhere": ([("nowhere", "fc")], {}, "an edge leads to or from 'nowhere', and there is no such node"),
    "a node beside the chain": ([], {}, r"node 'side' .*: nothing leads to it from 'in'"),
    "two inputs": ([], {"side": nir.Input(np.array([4]))}, "the graph has 2 nodes of type Input"),
    "no input": (
        [],
        {"in": nir.Scale(np.ones(SHAPE)), "side": nir.Scale(np.ones(1))},
        "the graph has 0 nodes of type Input",
    ),
}


@pytest.mark.parametrize("kind", GRAPHS)
def test_a_graph_that_is_no_chain_is_refused_by_the_name_of_the_node(kind: str) -> None:
    edges, changed, reason = GRAPHS[kind]
    built = graph(small_nodes(), edges)
    built.nodes |= {"side": nir.Scale(np.ones(4)), **changed}
    with pytest.raises(AuditError, match=f"^model.nir: {reason}") as refused:
        read(content(built))
    assert "\n" not in str(refused.value)


def test_a_node_s_name_does_not_break_the_line() -> None:
    built = graph(small_nodes(**{"a\nb": nir.Scale(np.ones(3))}))
    with pytest.raises(AuditError, match=r"node 'a\\nb' \(Scale\)"):
        read(content(built))


def test_a_chain_without_an_output_is_refused() -> None:
    nodes = small_nodes()
    nodes.pop("out")
    with pytest.raises(AuditError, match=r"node 'fc' \(Affine\): the chain ends in it"):
        read(graph(nodes))


def test_a_recurrence_in_a_nested_graph_is_refused_with_both_names() -> None:
    inner = {
        "in": nir.Input(np.array([5])),
        "lif": lif(5),
        "w": nir.Linear(numbers(5, 5)),
        "out": nir.Output(np.array([5])),
    }
    built = nir.NIRGraph(inner, [("in", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "out")], type_check=False)
    with pytest.raises(AuditError, match=r"node 'lif2\.lif' \(LIF\): it is recurrent: .* from 'lif2\.w'"):
        read(content(graph(small_nodes(lif2=built))))


def replaced(place: str, value: Any) -> Callable[[Any], object]:
    def change(file: Any) -> None:
        del file[place]
        if value is not None:
            file[place] = value

    return change


def too_many(file: Any) -> None:
    """Terabytes of which the file holds none."""
    del file["node/nodes/fc/weight"]
    file.create_dataset("node/nodes/fc/weight", shape=(2**20, 2**20), dtype="f4", chunks=(1024, 1024))


def nested(file: Any) -> None:
    group = file["node/nodes/fc"]
    for _ in range(40):
        group = group.create_group("metadata")


FILES: dict[str, tuple[Callable[[Any], object], str]] = {
    "no NIR": (replaced("node", None), "model.nir is no NIR file: there is no group 'node' in it"),
    "no graph": (replaced("node/type", "LIF"), "model.nir is no NIR graph: it has no nodes"),
    "no nodes": (replaced("node/nodes", None), "model.nir is no NIR graph: it has no nodes"),
    "an unknown type": (replaced("node/nodes/lif2/type", "Izhikevich"), r"node 'lif2' \(Izhikevich\): a network"),
    "no type": (replaced("node/nodes/lif2/type", None), "model.nir: node 'lif2' has no type"),
    "a type that is a number": (replaced("node/nodes/lif2/type", 3), "model.nir: node 'lif2' has no type"),
    "no weights": (replaced("node/nodes/fc/weight", None), r"node 'fc' \(Affine\), field 'weight': it is missing"),
    "no threshold": (replaced("node/nodes/lif2/v_threshold", None), "node 'lif2' .* 'v_threshold': it is missing"),
    "words for weights": (replaced("node/nodes/fc/weight", "heavy"), "node 'fc' .* 'weight': it holds no numbers"),
    "a group for weights": (lambda file: replaced("node/nodes/fc/weight", None)(file) or file.create_group(
        "node/nodes/fc/weight"), "node 'fc' .* 'weight': it holds no numbers"),
    "half a stride": (replaced("node/nodes/conv/stride", 0.5), "node 'conv' .* 'stride': it holds no whole numbers"),
    "edges that are none": (replaced("node/edges", [1.0, 2.0]), "the edges of its graph are no pairs of names"),
    "no edges": (replaced("node/edges", None), r"node 'conv' \(Conv2d\): nothing leads to it from 'in'"),
    "terabytes": (too_many, "fc/weight' is .1048576, 1048576.: at most 134,217,728 numbers are read"),
    "a link": (replaced("node/nodes/fc/weight", h5py.SoftLink("/version")), "weight' is a link"),
    "a link to another file": (replaced("node/nodes/fc", h5py.ExternalLink("other.nir", "/node")), "fc' is a link"),
    "nested without end": (nested, "is nested deeper than 8 graphs"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_network_is_refused_in_one_line(kind: str) -> None:
    change, reason = FILES[kind]
    with pytest.raises(AuditError, match=reason) as refused:
        read(content(graph(small_nodes()), change))
    assert str(refused.value).startswith("model.nir")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("broken", [b"", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", content(graph(small_nodes()))[:2000]])
def test_bytes_that_are_no_hdf5_are_refused(broken: bytes) -> None:
    with pytest.raises(AuditError, match=r"^model.nir is no readable NIR file: "):
        read(broken)


def leaves(value: Any) -> list[tuple[Any, Any]]:
    """(dictionary, key) of every value in nested dictionaries."""
    return [(value, k) for k in value] + [x for v in value.values() if isinstance(v, dict) for x in leaves(v)]


ODD = [
    None,
    -1,
    0,
    3,
    2**63,
    0.5,
    np.nan,
    1e300,
    "x",
    b"x",
    "LIF",
    "Flatten",
    [],
    {},
    [[1.0]],
    np.ones((4, 2)),
    np.ones(5),
]


@given(st.data(), st.sampled_from(ODD))
@settings(max_examples=150, deadline=None)
def test_whatever_a_graph_holds_it_is_a_network_that_runs_or_refused(data: st.DataObject, value: Any) -> None:
    mutated = graph(small_nodes(lif2=spiking(5))).to_dict()
    container, key = data.draw(st.sampled_from(leaves(mutated)))
    container[key] = value
    try:
        network = read(SimpleNamespace(to_dict=lambda: mutated))
    except AuditError:
        return
    assert tuple(logits(network, rand(1, *SHAPE)).shape) == (1, 3)


def test_the_limits_of_strangers_hold_here_as_well() -> None:
    with pytest.raises(AuditError, match="time_steps: Input should be less than"):
        read(graph(small_nodes()), replace(HOW, time_steps=10**9))
    with pytest.raises(AuditError, match="dt > 0"):
        read(graph(small_nodes()), replace(HOW, dt=0.0))


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    written = content(graph(small_nodes()))
    monkeypatch.setattr(nir_chain, "import_module", lambda name: __import__(f"no_such_{name}"))
    with pytest.raises(AuditError, match=r"needs the package 'h5py', .*: pip install 'snn-privacy-audit\[nir\]'"):
        read(written)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.AvgPool2d(2, ceil_mode=True), "layer 'pool': its poolings neither round"),
        (nn.AvgPool2d(2, padding=1, count_include_pad=False), "layer 'pool': its poolings neither round"),
        (nn.AvgPool2d(2, divisor_override=3), "layer 'pool': a pooling with its own divisor"),
        (nn.MaxPool2d(2), r"layer 'pool' \(MaxPool2d\) cannot be stored"),
        (nn.ReLU(), r"layer 'pool' \(ReLU\) has no node"),
        (LIF(), "layer 'pool' has no threshold yet"),
    ],
)
def test_what_nir_cannot_represent_is_not_written(layer: nn.Module, reason: str, tmp_path: Path) -> None:
    network = small_snn()
    network.layers.pool = layer
    with pytest.raises(AuditError, match=f"^NIR: {reason}"):
        write_nir(network, tmp_path / "network.nir", SHAPE)
    assert not list(tmp_path.iterdir())


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
