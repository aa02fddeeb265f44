"""What cannot be read from a NIR graph or a file, or written to one, is refused by the name of its node."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from audit.errors import AuditError
from audit.spiking import nir_chain
from audit.spiking.neuron import LIF
from audit.spiking.nir_export import write_nir
from tests.networks.teachers import rand, small_snn
from tests.spiking.nir_graphs import (
    HOW,
    SHAPE,
    content,
    conv,
    graph,
    h5py,
    lif,
    logits,
    nir,
    numbers,
    pool,
    read,
    small_nodes,
    spiking,
)


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
