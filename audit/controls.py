"""The negative controls: an untrained network of a target's shape, and image sets that no attack made."""

import torch
from torch import Tensor, nn

from audit.contracts import Images, Task
from audit.networks.ascent import derived_seed
from audit.observation import first_per_class
from audit.spiking.conversion import balance_thresholds
from audit.spiking.files import build, describe, weights
from audit.spiking.live import Live
from audit.spiking.network import SpikingNetwork

# Of the peak currents on noise: with the maximum, the deep layers of a random network stay silent at small T.
THRESHOLD_PERCENTILE = 90.0
NOISE_IMAGES = 64


def untrained_twin(network: nn.Module, task: Task, seed: int, device: torch.device) -> nn.Module:
    """The same layers with weights that never saw an image: Kaiming-normal (fan in), biases 0, drawn from ``seed``.

    A spiking network's thresholds are balanced on uniform noise. In anybody's module, what is no convolution and no
    linear layer begins anew as its class does.
    """
    twin = build(describe(network), weights(network)).to(device)
    # A stream of its own: the teacher's first weights were drawn from the bare seed.
    generator = torch.Generator().manual_seed(derived_seed(seed, "untrained", 0))
    if isinstance(twin, Live):
        _begin_anew(twin, seed)
    with torch.no_grad():
        for layer in twin.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                fresh = torch.empty(layer.weight.shape)
                layer.weight.copy_(nn.init.kaiming_normal_(fresh, generator=generator))
                if layer.bias is not None:
                    layer.bias.zero_()
    if isinstance(twin, SpikingNetwork):
        twin.output_scale.fill_(1 / twin.time_steps)
        for neuron in twin.neurons.values():
            neuron.threshold = torch.tensor(float("nan"), device=device)
        balance_thresholds(twin, noise(NOISE_IMAGES, task, generator).to(device), seed, THRESHOLD_PERCENTILE)
    return twin.eval()


def _begin_anew(network: nn.Module, seed: int) -> None:
    """Every layer as its class begins. It draws from torch's global generator, which is put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "begin anew", 0) % 2**63)
        for layer in network.modules():
            renew = getattr(layer, "reset_parameters", None)
            if callable(renew):
                renew()


def noise(count: int, task: Task, generator: torch.Generator) -> Tensor:
    """Uniform noise [count, C, H, W] in the task's input range."""
    low, high = task.input_range
    return torch.rand(count, *task.image_shape, generator=generator) * (high - low) + low


def image_controls(task: Task, test: Images, per_class: int, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """By name (images, labels): ``per_class`` held-out real images of every class, and as many of uniform noise."""
    real = first_per_class(test, per_class, len(task.classes))
    generator = torch.Generator().manual_seed(seed)
    return {
        "held-out real images": (task.normalise(real.pixels), real.labels),
        "uniform noise": (noise(len(real), task, generator), real.labels),
    }
