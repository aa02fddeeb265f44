"""A network from a stranger is parsed as data, and refused before anything of the size that it claims is allocated."""

import json
import pickle
import struct
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor, nn

from audit.errors import AuditError
from audit.spiking.files import describe, weights
from audit.spiking.network import SpikingNetwork
from audit.spiking.strangers import LARGEST_ACTIVATION, Expected, parse_network
from tests.networks.teachers import TASK, generator, rand, small_ann, small_snn, tiny_target, tiny_teacher

EXPECTED = Expected((2, 6, 6), 3)
Change = Callable[[Any], object]


def stored(network: nn.Module, change: Change = lambda _: None, tensors: dict[str, Tensor] | None = None) -> bytes:
    """The network's file, its description changed in place, and other tensors in it."""
    description = json.loads(json.dumps(describe(network)))
    change(description)
    return save({**weights(network), **(tensors or {})}, {"network": json.dumps(description)})


def header(text: bytes, length: int | None = None, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def parse(content: bytes, expected: Expected = EXPECTED) -> nn.Module:
    return parse_network(content, "the target", expected)


@pytest.mark.parametrize("network", [small_snn(), small_snn("direct", leak=0.5, reset="hard"), small_ann(dropout=0.3)])
def test_a_network_of_the_task_gives_the_same_bits(network: nn.Module) -> None:
    parsed, x = parse(stored(network)), rand(3, 2, 6, 6)
    assert describe(parsed) == describe(network)
    arguments = (x, generator()) if isinstance(network, SpikingNetwork) else (x,)
    again = (x, generator()) if isinstance(network, SpikingNetwork) else (x,)
    assert torch.equal(parsed(*arguments), network(*again))


def test_a_target_with_a_threshold_per_channel_is_parsed() -> None:
    network = tiny_target()
    for neuron in network.neurons.values():
        neuron.threshold = torch.full_like(network.layers.conv1.weight[:1, 0, 0, 0], 0.5)
    parse(stored(network), Expected(TASK.image_shape, 3))


def layer(index: int, **changed: Any) -> Change:
    return lambda description: description["layers"][index].update(changed)


def of(**changed: Any) -> Change:
    return lambda description: description.update(changed)


LARGE = {"name": "large", "type": "Linear", "in_features": 2**20, "out_features": 2**20, "bias": False}
DESCRIPTIONS: dict[str, tuple[Change, str]] = {
    "unknown layer": (layer(1, type="Bilinear"), "layers.1: Input tag 'Bilinear'"),
    "pickled layer": (layer(1, type="os.system"), "layers.1: Input tag 'os.system'"),
    "somebody's module": (of(kind="live"), "Input tag 'live'"),
    "more than a layer has": (layer(0, groups=2), "layers.0.Conv2d.groups: Extra inputs"),
    "more than a network has": (of(output=1), "spiking.output: Extra inputs"),
    "less than a layer has": (lambda d: d["layers"][0].pop("stride"), "layers.0.Conv2d.stride: Field required"),
    "no encoder": (lambda d: d.pop("encoder"), "spiking.encoder: Field required"),
    "unknown coding": (lambda d: d["encoder"].update(coding="eval"), "encoder.coding"),
    "more than an encoder has": (lambda d: d["encoder"].update(code="x"), "encoder.code: Unexpected"),
    "no layers": (of(layers=[]), "spiking.layers: Tuple should have at least 1 item"),
    "too many layers": (lambda d: d.update(layers=d["layers"][1:2] * 501), "at most 500 items"),
    "two of a name": (layer(1, name="conv1"), "two layers have the same name"),
    "a method's name": (layer(1, name="forward"), "attribute 'forward' already exists"),
    "a path as a name": (layer(1, name="../relu"), "layers.1.LIF.name: String should match"),
    "no time": (of(time_steps=0), "time_steps: Input should be greater"),
    "no end of time": (of(time_steps=10**9), "time_steps: Input should be less"),
    "terabytes": (lambda d: d["layers"].append(LARGE), "'layers.large.weight' is nothing where its description says"),
    "terabytes in one layer": (layer(0, out_channels=2**20), r"\(1048576, 2, 3, 3\)"),
    "more than terabytes": (layer(0, out_channels=2**40), "out_channels: Input should be less than"),
    "negative": (layer(0, kernel_size=-3), "kernel_size"),
    "a stride of none": (layer(0, stride=[0, 1]), "stride"),
    "padding without end": (layer(0, padding=10**6), "padding"),
    "a leak above 1": (layer(1, leak=1.5), "layers.1.LIF.leak: Input should be less than"),
    "an odd surrogate": (lambda d: d["layers"][1]["surrogate"].update(shape="exec"), "surrogate.shape"),
    "a flat slope": (lambda d: d["layers"][1]["surrogate"].update(width=0), "surrogate.width"),
    "a threshold of five sides": (layer(1, threshold=[1] * 5), "threshold: Tuple should have at most 3 items"),
    "another layer's threshold": (layer(1, threshold=[4, 1, 1]), r"'layers.relu1.threshold' is \(\) where"),
    "another shape": (layer(7, in_features=35), r"is \(3, 36\) where its description says \(3, 35\)"),
    "a pooling that leaves nothing": (layer(5, kernel_size=9), "."),
    "a missing layer": (lambda d: d["layers"].pop(0), "'layers.conv1.weight' is .* says nothing"),
    "a layer in the wrong place": (lambda d: d["layers"].reverse(), "."),
}  # fmt: skip


@pytest.mark.parametrize("kind", DESCRIPTIONS)
def test_a_description_that_is_no_network_of_the_task_is_refused_for_what_it_is(kind: str) -> None:
    change, reason = DESCRIPTIONS[kind]
    with pytest.raises(AuditError, match=f"^the target.*{reason}"):
        parse(stored(small_snn(), change))


def test_a_value_that_only_looks_like_a_number_becomes_one() -> None:
    def change(description: Any) -> None:
        description["time_steps"] = 7.0
        description["layers"][1]["leak"] = "0.5"

    parsed = parse(stored(small_snn(), change))
    assert isinstance(parsed, SpikingNetwork)
    assert (repr(parsed.time_steps), parsed.neurons["relu1"].leak) == ("7", 0.5)
    parsed(rand(1, 2, 6, 6), generator())


TENSORS: dict[str, tuple[dict[str, Tensor], str]] = {
    "NaN": ({"layers.fc.bias": torch.tensor([0.0, float("nan"), 0])}, "layers.fc.bias has values that are not finite"),
    "infinite": ({"layers.fc.bias": torch.full((3,), torch.inf)}, "layers.fc.bias has values that are not finite"),
    "halves": ({"layers.fc.bias": torch.zeros(3, dtype=torch.float16)}, "holds torch.float16; weights are float32"),
    "whole numbers": ({"layers.fc.bias": torch.zeros(3, dtype=torch.int64)}, "holds torch.int64"),
    "other shape": ({"layers.fc.weight": torch.zeros(36, 3)}, r"is \(36, 3\) where its description says \(3, 36\)"),
    "surplus": ({"layers.fc.extra": torch.zeros(1)}, r"'layers.fc.extra' is \(1,\) where its description says nothing"),
    "threshold of 0": ({"layers.relu1.threshold": torch.tensor(0.0)}, "a threshold is not above 0"),
    "threshold below 0": ({"layers.relu2.threshold": torch.tensor(-1.0)}, "a threshold is not above 0"),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_that_are_no_weights_of_the_described_layers_are_refused(kind: str) -> None:
    tensors, reason = TENSORS[kind]
    with pytest.raises(AuditError, match=f"^the target.*{reason}"):
        parse(stored(small_snn(), tensors=tensors))


def test_a_threshold_that_is_not_of_its_layer_s_channels_is_refused() -> None:
    tensors = {"layers.relu1.threshold": torch.ones(7, 1, 1)}
    with pytest.raises(AuditError, match=r"the threshold of 'relu1' is \(7, 1, 1\)"):
        parse(stored(small_snn(), layer(1, threshold=[7, 1, 1]), tensors))


def test_a_neuron_has_no_place_in_a_network_that_does_not_spike() -> None:
    snn = small_snn()
    tensors = {name.removeprefix("layers."): rows for name, rows in weights(snn).items() if name.startswith("layers.")}
    description = {"kind": "ann", "layers": describe(snn)["layers"]}
    with pytest.raises(AuditError, match="layer 'relu1' is a neuron in a network that does not spike"):
        parse(save(tensors, {"network": json.dumps(description)}))


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        (Expected((2, 6, 6), 4), r"it gives \(1, 3\) for an image; there are 4 classes"),
        (Expected((3, 6, 6), 3), "channel"),
        (Expected((2, 8, 8), 3), "shape|dim"),
        (Expected((2, 10**30, 6), 3), "."),
        (Expected((2, 0, 0), 3), "."),
        (Expected((2, -6, 6), 3), "negative dimension"),
    ],
)
def test_a_network_of_another_task_is_refused(expected: Expected, reason: str) -> None:
    with pytest.raises(AuditError, match=f"^the target: .*({reason})"):
        parse(stored(small_snn()), expected)


def test_an_activation_is_measured_before_it_is_made() -> None:
    wide = nn.Sequential(nn.Conv2d(2, 2**8, 3, padding=1), nn.Flatten(), nn.Linear(1, 3))
    reason = f"layer '0' gives 67,108,864 numbers per image; at most {LARGEST_ACTIVATION:,}"
    with pytest.raises(AuditError, match=reason):
        parse(stored(wide), Expected((2, 512, 512), 3))


HEADERS = {
    "empty": (b"", "no safetensors file"),
    "short": (b"\x01\x00", "no safetensors file"),
    "a header longer than the file": (header(b"{}", 2**40), "a header of 1,099,511,627,776 bytes"),
    "a header longer than anybody's": (header(b"{}", 2**21, bytes(2**21)), "a header of 2,097,152 bytes"),
    "a header shorter than it is": (header(b'{"__metadata__": {}}', 7), "no safetensors file"),
    "no metadata": (save({"a": torch.zeros(1)}), "no safetensors file with a description"),
    "metadata of another kind": (header(b'{"__metadata__": []}'), "no safetensors file with a description"),
    "description of another kind": (header(b'{"__metadata__": {"network": 5}}'), "no safetensors file with a descr"),
    "description is no JSON": (header(b'{"__metadata__": {"network": "x"}}'), "no safetensors file with a descr"),
    "keys given twice": (header(b'{"__metadata__": {}, "__metadata__": {}}'), "'__metadata__' is given twice"),
    "nested": (header(b'{"a":' * 5000 + b"1" + b"}" * 5000), "nested deeper"),
    "a pickle": (pickle.dumps({"a": 1}), "no safetensors file"),
    "a pickle behind a length": (header(pickle.dumps({"a": 1})), "no safetensors file"),
    "tensors outside": (
        stored(small_ann()).replace(b'"data_offsets":[0,', b'"data_offsets":[9,', 1), "no readable safetensors file",
    ),
    "data cut": (stored(small_ann())[:-4], "no readable safetensors file"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HEADERS)
def test_a_file_that_lies_about_itself_is_refused(kind: str) -> None:
    content, reason = HEADERS[kind]
    with pytest.raises(AuditError, match=f"^the target.*{reason}"):
        parse(content)


def test_nothing_of_a_pickled_network_is_unpickled(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    torch.save(small_ann(), tmp_path / "n.pt")
    content = (tmp_path / "n.pt").read_bytes()

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("something was unpickled")

    monkeypatch.setattr(torch, "load", forbidden)
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, forbidden)
    with pytest.raises(AuditError, match="no safetensors file"):
        parse(content)


def leaves(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value of a description."""
    items = list(value.items() if isinstance(value, dict) else enumerate(value))
    return [(value, k) for k, _ in items] + [x for _, v in items if isinstance(v, dict | list) for x in leaves(v)]


@given(st.data(), st.sampled_from([None, -1, 0, 3, 2**63, 0.5, "x", "conv1", [], {}, [1, 1], True]))
@settings(max_examples=120, deadline=None)
def test_whatever_a_description_holds_it_is_a_network_that_runs_or_refused(data: st.DataObject, value: Any) -> None:
    description = json.loads(json.dumps(describe(tiny_target(steps=2))))
    container, key = data.draw(st.sampled_from(leaves(description)))
    container[key] = value
    content = save(weights(tiny_target(steps=2)), {"network": json.dumps(description)})
    try:
        network = parse(content, Expected(TASK.image_shape, 3))
    except AuditError:
        return
    assert tuple(network(rand(1, *TASK.image_shape).clamp(0, 1), generator()).shape) == (1, 3)


def test_a_teacher_is_a_network_of_the_task_as_well() -> None:
    assert isinstance(parse(stored(tiny_teacher()), Expected(TASK.image_shape, 3)), nn.Sequential)
