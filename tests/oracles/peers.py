"""The same neuron and the same network in other libraries: SpikingJelly (2.0.0) and snnTorch (1.0.0).

Neither is needed to run the project: without them the tests that ask for them are skipped.

SpikingJelly: ``IFNode`` (leak 1) and ``LIFNode(tau, decay_input=False)`` with leak 1 - 1/tau; ``v_reset=None`` is the
soft reset and ``v_reset=0`` the hard one; ``detach_reset=True``. It fires at u >= theta, we do at u > theta.
``PiecewiseQuadratic(alpha)`` has the slope alpha - alpha^2 |u - theta|, Eq. 5 of PrivateSNN 1 - |u - theta| / theta:
alpha = 1 / theta is Eq. 5 divided by theta, ``Surrogate(per_threshold=True)``. `SPIKINGJELLY_SHAPES` has any alpha and
other shapes.

snnTorch: ``Leaky(beta, threshold)`` with beta our leak; it fires at u > theta as we do. Its resets happen in the next
time-step, so its ``mem`` is our potential before the reset:
- ``reset_mechanism="zero"`` clears before it leaks: our hard reset at every leak;
- ``reset_mechanism="subtract"`` takes theta away after the leak, leak * u - theta, where ours is leak * (u - theta):
  our soft reset at leak 1 only;
- ``reset_delay=False`` with "subtract" resets in the same time-step: our soft reset at every leak as long as no
  potential exceeds 2 theta. One that does is still above theta after its reset, and snnTorch takes that for a reset
  that it owes: it can go on without a spike for ever.
"""

from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF
from audit.spiking.surrogate import Surrogate

Reset = Literal["soft", "hard"]
SnnTorchReset = Literal["subtract", "subtract at once", "zero"]

# Ours, and the name and the alpha of SpikingJelly's where theta = 1; elsewhere alpha is divided by theta.
# Ours is per threshold everywhere. Width w and gain g: triangle (1/a, a), rectangle (1/a, a), arctan (1/a, a/2),
# sigmoid (4/a, a/4) for SpikingJelly's alpha = a / theta.
SPIKINGJELLY_SHAPES = {
    "triangle": ("PiecewiseQuadratic", lambda a: Surrogate("triangle", 1 / a, a, per_threshold=True)),
    "rectangle": ("Rect", lambda a: Surrogate("rectangle", 1 / a, a, per_threshold=True)),
    "arctan": ("ATan", lambda a: Surrogate("arctan", 1 / a, a / 2, per_threshold=True)),
    "sigmoid": ("Sigmoid", lambda a: Surrogate("sigmoid", 4 / a, a / 4, per_threshold=True)),
}


def spikingjelly(module: str) -> Any:
    """``spikingjelly.activation_based.<module>``, or a skipped test."""
    return pytest.importorskip(f"spikingjelly.activation_based.{module}", reason="the oracle needs SpikingJelly")


def snntorch() -> Any:
    return pytest.importorskip("snntorch", reason="the oracle needs snnTorch")


def spikingjelly_node(
    threshold: float, leak: float, reset: Reset, shape: str = "PiecewiseQuadratic", alpha: float = 1.0
) -> Any:
    """A multi-step neuron with SpikingJelly's alpha = ``alpha`` / theta."""
    neuron = spikingjelly("neuron")
    settings = {
        "v_threshold": threshold,
        "v_reset": None if reset == "soft" else 0.0,
        "detach_reset": True,
        "surrogate_function": getattr(spikingjelly("surrogate"), shape)(alpha=alpha / threshold),
        "step_mode": "m",
    }
    return neuron.IFNode(**settings) if leak == 1 else neuron.LIFNode(1 / (1 - leak), decay_input=False, **settings)


def spikingjelly_lif(node: Any, current: Tensor, potential: Tensor) -> tuple[Tensor, Tensor]:
    """``current`` [T, B, ...] -> spikes [T, B, ...] and the last potential [B, ...]."""
    node.v = potential
    return node(current), node.v


def spikingjelly_network(network: SpikingNetwork, train: Tensor) -> Tensor:
    """Input [T, B, ...] through the very weights of ``network`` -> the last layer's output summed over time [B, K]."""
    layer = spikingjelly("layer")
    twin = nn.Sequential(
        *(
            spikingjelly_node(float(ours.threshold), ours.leak, ours.reset)
            if isinstance(ours, LIF)
            else layer.SeqToANNContainer(ours)
            for ours in network.layers
        )
    )
    return twin(train).sum(0)


class _Triangle(torch.autograd.Function):
    """1[u > theta] with the slope of Eq. 5: snnTorch's own ``triangular`` is another function."""

    @staticmethod
    def forward(ctx: Any, above: Tensor, threshold: float) -> Tensor:
        ctx.save_for_backward(above)
        ctx.threshold = threshold
        return (above > 0).to(above.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (above,) = ctx.saved_tensors
        return gradient * (1 - above.abs() / ctx.threshold).clamp(min=0), None


def snntorch_lif(
    current: Tensor, potential: Tensor, threshold: float, leak: float, reset: SnnTorchReset
) -> tuple[Tensor, Tensor]:
    """``current`` [T, B, ...] -> spikes and the last potential after its reset; the slope is Eq. 5.

    ``potential`` [B, ...] must not exceed the threshold: the first step would reset it.
    """
    node = snntorch().Leaky(
        leak,
        threshold,
        spike_grad=lambda above: _Triangle.apply(above, threshold),
        reset_mechanism="zero" if reset == "zero" else "subtract",
        reset_delay=reset != "subtract at once",
    )
    mem, spikes = potential, []
    for i in current:
        spike, mem = node(i, mem)
        spikes.append(spike)
    fired = spikes[-1].detach()
    match reset:
        case "subtract":
            mem = mem - fired * threshold
        case "zero":
            mem = mem * (1 - fired)
    return torch.stack(spikes), mem
