"""In whole numbers a network does what it does in floating point, as far as its bits go; what has none is refused."""

from collections import OrderedDict
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from audit.errors import AuditError
from audit.settings import validated
from audit.spiking.adaptive_neuron import AdaptiveLIF
from audit.spiking.agreement import Agreement, agreement
from audit.spiking.encoding import Coding, Encoder
from audit.spiking.grid import Grid, round_weights
from audit.spiking.integer import HEADROOM, Chip, emulate, finest, whole_inputs
from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF, Reset
from tests.networks.teachers import exact_snn, generator, rand, small_snn, tiny_target

CODINGS: tuple[Coding, ...] = get_args(Coding)
FINE = Chip(fraction_bits=12, membrane_bits=40, threshold_bits=30)
IMAGES = rand(6, 2, 8, 8).abs()


def whole(
    coding: Coding = "rate", bits: int = 4, per_channel: bool = False, reset: Reset = "soft", leak: float = 1.0
) -> SpikingNetwork:
    """`exact_snn` whose weights are whole multiples of powers of 2: its floating-point sums are exact."""
    network = exact_snn(coding, 9, leak, reset)
    n = 1 if bits == 1 else 2 ** (bits - 1) - 1
    with torch.no_grad():
        for seed, layer in enumerate(network.layers):
            if not isinstance(layer, nn.Conv2d | nn.Linear):
                continue
            levels = torch.randint(-n, n + 1, layer.weight.shape, generator=generator(seed)).float()
            if bits == 1:
                levels = torch.where(levels < 0, -1.0, 1.0)
            levels.flatten(1)[:, 0] = n  # so that the grid is found in every channel
            steps = 2.0 ** -(bits + (1 + torch.arange(len(levels)) % 3 if per_channel else torch.tensor([2])))
            layer.weight.copy_(levels * steps.view(-1, *(1,) * (levels.dim() - 1)))
    return network


def compared(network: SpikingNetwork, chip: Chip = FINE, images: Tensor = IMAGES) -> Agreement:
    return agreement(network, emulate(network, chip), images, batch_size=4)


def exactly(found: Agreement) -> bool:
    return (
        found.predictions == 1
        and set(found.spikes.values()) == {1.0}
        and found.largest_logit_difference < 1e-5
        and not any(found.saturated.values())
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("reset", get_args(Reset))
def test_it_is_the_quantised_network_spike_for_spike(bits: int, per_channel: bool, reset: Reset) -> None:
    network = whole(bits=bits, per_channel=per_channel, reset=reset)
    found = compared(network)
    assert exactly(found)
    assert tuple(found.spikes) == ("relu1", "relu2", "relu3")
    with torch.no_grad():
        trains = emulate(network, FINE).run(IMAGES, generator()).spikes
    assert all(0.02 < float(train.float().mean()) < 0.98 for train in trains.values())


@pytest.mark.parametrize("coding", sorted(set(CODINGS) - {"direct"}))
def test_every_coding_of_spikes_is_whole_already(coding: Coding) -> None:
    assert exactly(compared(whole(coding)))


def test_signed_spikes_are_as_well() -> None:
    assert exactly(compared(whole("rate"), images=rand(6, 2, 8, 8)))


def test_pixels_of_8_bits_are_whole_under_direct_coding() -> None:
    # Sums of multiples of 1/255 are not exact in floating point: next to a threshold a spike may differ.
    levels = torch.randint(0, 256, (6, 2, 8, 8), generator=generator())
    for images in (levels / 255, levels * (2 / 255) - 1):
        found = compared(whole("direct"), images=images)
        assert min(found.spikes.values()) > 0.995
    coded = whole_inputs(levels * (2 / 255) - 1, Encoder("direct"), Chip())
    assert torch.equal(coded, 2 * levels - 255)


def test_fewer_bits_of_the_input_agree_less_and_what_lies_beyond_it_is_clipped() -> None:
    network = whole("direct")
    coarse, fine = (compared(network, replace(FINE, input_bits=bits)).spikes["relu1"] for bits in (2, 8))
    assert coarse < fine
    assert whole_inputs(torch.tensor([7.0, -7.0]), Encoder("direct"), Chip(input_bits=4)).tolist() == [15, -15]


@pytest.mark.parametrize("leak", [0.5, 0.0])
def test_a_leak_is_exact_where_its_fraction_has_bits_enough(leak: float) -> None:
    assert exactly(
        compared(whole(leak=leak, reset="hard"), Chip(fraction_bits=16, membrane_bits=40, threshold_bits=32))
    )
    if leak:
        assert not exactly(compared(whole(leak=leak, reset="hard"), Chip()))


def test_the_finest_membrane_agrees_more_with_a_leaky_network_and_leaves_room_above_thresholds() -> None:
    network = whole(leak=0.5, reset="hard")
    coarse, fine = (agreement(network, made, IMAGES, batch_size=4) for made in (emulate(network), finest(network)))
    assert min(fine.spikes.values()) > min(coarse.spikes.values())
    assert finest(network).chip.fraction_bits == 8
    chip = Chip(membrane_bits=16, threshold_bits=15)
    narrow = finest(network, chip)
    highest = max(int(layer.threshold.max()) for _, layer in narrow.layers if hasattr(layer, "threshold"))
    assert 2 ** (14 - HEADROOM) < 2 * highest <= 2 ** (16 - HEADROOM)
    assert narrow.chip == replace(chip, fraction_bits=narrow.chip.fraction_bits)
    least = Chip(membrane_bits=10, threshold_bits=9)
    assert finest(network, least).chip == least
    with pytest.raises(AuditError, match="conv1"):
        finest(small_snn())


def test_a_threshold_between_two_whole_numbers_is_exact_with_hard_reset_and_near_with_soft() -> None:
    shares = {}
    for reset in get_args(Reset):
        network = whole(reset=reset)
        for layer in (network.layers.conv2, network.layers.conv3):
            layer.bias.data.zero_()
        for neuron in network.neurons.values():
            neuron.threshold.fill_(0.75 + 0.4 / 64)
        shares[reset] = min(compared(network, Chip()).spikes.values())
    assert shares["hard"] == 1
    assert 0.9 < shares["soft"] < 1


def test_a_start_at_a_share_of_the_threshold_is_kept() -> None:
    network = whole()
    for neuron in network.neurons.values():
        neuron.initial = 0.5
    assert exactly(compared(network))


def test_thresholds_of_every_channel_are_kept() -> None:
    network = whole(per_channel=True)
    network.layers.relu2.threshold = torch.linspace(0.5, 2.0, 12).mul(64).round().div(64).view(-1, 1, 1)
    assert exactly(compared(network))


@pytest.mark.parametrize("pool", [nn.AvgPool2d(2), nn.AvgPool2d(2, 1, padding=1), nn.AvgPool2d((4, 1))])
@pytest.mark.parametrize("before", [True, False])
def test_a_pooling_is_a_sum_before_a_neuron_and_after_it(pool: nn.AvgPool2d, before: bool) -> None:
    conv = nn.Conv2d(1, 2, 3, padding=1, bias=False)
    conv.weight.data = (torch.arange(18).view(2, 1, 3, 3) % 7 - 3).float() / 8
    pair = [("pool", pool), ("relu", LIF(0.125))]
    layers: OrderedDict[str, nn.Module] = OrderedDict([("conv", conv), *(pair if before else pair[::-1])])
    layers["last"] = nn.Conv2d(2, 3, 1, bias=False)
    layers["last"].weight.data = (torch.arange(6).view(3, 2, 1, 1) - 3).float() / 4
    layers["flat"] = nn.Flatten()
    network = SpikingNetwork(nn.Sequential(layers), Encoder("rate"), 8).eval()
    assert exactly(compared(network, FINE, rand(4, 1, 6, 6).abs()))


def test_a_narrow_membrane_saturates_and_then_the_spikes_differ() -> None:
    wide = Chip(fraction_bits=4)
    assert exactly(compared(whole(), wide))
    found = compared(whole(), replace(wide, membrane_bits=13, threshold_bits=12))
    assert sum(found.saturated.values()) > 0
    assert min(found.spikes.values()) < 1


def test_a_membrane_that_saturates_stays_within_its_bits() -> None:
    layers = nn.Sequential(
        OrderedDict(fc1=nn.Linear(1, 1, bias=False), relu=LIF(100.0), fc2=nn.Linear(1, 2, bias=False))
    )
    layers.fc1.weight.data.fill_(-1.0)
    layers.fc2.weight.data.fill_(1.0)
    network = SpikingNetwork(layers, Encoder("direct"), 40).eval()
    run = emulate(network, Chip(input_bits=4, membrane_bits=12, threshold_bits=12)).run(torch.ones(1, 1))
    assert run.saturated == {"relu": 0, "fc2": 0}
    # 15 per step, from -2^7 on it goes no lower: 8 steps to -120, and 32 at the limit.
    layers.relu.threshold.fill_(1.0)
    run = emulate(network, Chip(input_bits=4, membrane_bits=8, threshold_bits=7)).run(torch.ones(1, 1))
    assert run.saturated["relu"] == 32


def test_the_last_layer_saturates_in_its_own_width() -> None:
    found = compared(whole(), Chip(fraction_bits=4, accumulator_bits=12))
    assert found.saturated["fc"] > 0
    assert set(found.spikes.values()) == {1.0}
    assert found.largest_logit_difference > 0.1


def test_a_quantised_network_of_any_scale_agrees_nearly() -> None:
    network = tiny_target("rate")
    round_weights(network.layers, Grid(4, per_channel=True))
    found = compared(network)
    assert found.predictions == 1
    assert min(found.spikes.values()) > 0.99
    assert found.images == 6


def test_the_emulation_is_called_like_the_network() -> None:
    network = whole()
    with torch.no_grad():
        torch.testing.assert_close(emulate(network, FINE)(IMAGES, generator()), network(IMAGES, generator()))


def grown(layer: nn.Module, name: str = "odd") -> SpikingNetwork:
    layers = OrderedDict(whole().layers.named_children())
    return SpikingNetwork(nn.Sequential(OrderedDict({name: layer}) | layers), Encoder("rate"), 4)


@pytest.mark.parametrize(
    ("network", "chip", "message"),
    [
        (small_snn(), Chip(), r"layer 'conv1': its weights lie on no grid of up to 8 bits.*--defense quantized"),
        (whole(bits=8), Chip(weight_bits=4), r"layer 'conv1': its weights lie on no grid of up to 4 bits"),
        (whole(), Chip(threshold_bits=4), r"layer 'relu1': its thresholds are 48 to 48 units, and 4 bits hold 1 to 15"),
        (grown(AdaptiveLIF(1.0)), Chip(), r"layer 'odd' \(AdaptiveLIF\) has no counterpart in whole numbers"),
        (grown(nn.MaxPool2d(2)), Chip(), r"layer 'odd' \(MaxPool2d\) has no counterpart"),
        (grown(nn.AvgPool2d(3, ceil_mode=True)), Chip(), r"layer 'odd': windows at the border"),
        (grown(nn.AvgPool2d(3, 1, 1, count_include_pad=False)), Chip(), r"layer 'odd': windows at the border"),
        (grown(nn.Conv2d(2, 2, 1, padding=1, padding_mode="circular", bias=False)), Chip(), r"layer 'odd'"),
    ],
    ids=["no grid", "too few bits", "threshold", "adaptive", "max pool", "ceil", "pad", "padding mode"],
)
def test_what_cannot_be_mapped_is_refused_by_name(network: SpikingNetwork, chip: Chip, message: str) -> None:
    with pytest.raises(AuditError, match=message):
        emulate(network, chip)


def test_two_weight_layers_in_a_row_need_one_step_for_the_first_of_them() -> None:
    first, second = nn.Linear(4, 3, bias=False), nn.Linear(3, 2, bias=False)
    second.weight.data = torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, 1.0]])
    network = SpikingNetwork(nn.Sequential(OrderedDict(fc1=first, fc2=second)), Encoder("direct"), 3).eval()
    first.weight.data = Grid(3).round(rand(3, 4))
    assert compared(network, Chip(input_bits=12), rand(5, 4)).largest_logit_difference < 0.01
    first.weight.data = Grid(3, per_channel=True).round(rand(3, 4))
    with pytest.raises(AuditError, match="layer 'fc2': its inputs come in another unit per channel"):
        emulate(network)


@pytest.mark.parametrize("changed", [{"membrane_bits": 1}, {"weight_bits": 9}, {"leak_bits": 0}, {"input_bits": 17}])
def test_a_bad_width_is_refused_by_name(changed: dict[str, Any]) -> None:
    with pytest.raises(AuditError, match=rf"chip\.{next(iter(changed))}"):
        validated(Chip, changed, "chip")


def test_no_images_is_an_error() -> None:
    with pytest.raises(ValueError, match="no images"):
        agreement(whole(), emulate(whole()), IMAGES[:0])
