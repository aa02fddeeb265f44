"""Networks that are there already, as a component: checked before anything is trained, then audited as they are."""

import copy
import inspect
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import save
from torch import Tensor, nn

from audit.contracts import DataAccess, Defense, DefenseContext, Task
from audit.errors import AuditError
from audit.records import NOT_SUBMITTABLE
from audit.registry import Component
from audit.spiking.adaptive_neuron import AdaptiveLIF
from audit.spiking.files import describe, weights
from audit.spiking.live import Live, class_of
from audit.spiking.network import SpikingNetwork
from audit.spiking.neuron import LIF
from audit.store import digest, hash_tensors

NAME = "own-network"
LONGEST = 200
# Of these, and of no class that extends them, a description says all there is to say.
LAYERS = (nn.Conv2d, nn.Linear, nn.AvgPool2d, nn.Dropout, nn.Flatten, nn.ReLU, LIF, AdaptiveLIF)
CONTAINERS = (nn.Sequential, SpikingNetwork)


@dataclass(frozen=True)
class OwnNetworks:
    """Copies of somebody's networks, by seed, in eval()."""

    targets: Mapping[int, nn.Module]

    @classmethod
    def of(cls, networks: Mapping[int, nn.Module]) -> "OwnNetworks":
        """Raises AuditError where one of them is no module, or cannot be copied."""
        copies = {id(network): _target(seed, network) for seed, network in networks.items()}
        return cls({seed: copies[id(network)] for seed, network in networks.items()})

    def component(self) -> Component[Defense]:
        """A defense whose targets they are."""
        targets = self.targets

        @dataclass(frozen=True)
        class OwnNetwork:
            """A network that was there already, audited as it is."""

            data_access: ClassVar[DataAccess] = DataAccess.UNKNOWN
            in_all: ClassVar[bool] = False
            repeatable: ClassVar[bool] = False

            def protect(self, teacher: nn.Sequential, context: DefenseContext) -> nn.Module:
                target = targets[context.seed]
                if isinstance(target, Live):
                    context.notes[NOT_SUBMITTABLE] = target.only_here()
                return copy.deepcopy(target).to(context.device)

            def check(self, task: Task, seed: int, device: torch.device) -> None:
                check(targets[seed], task, device)

            def fingerprint(self, task: Task, seed: int) -> str:
                return digest([describe(targets[seed]), hash_tensors(weights(targets[seed]))])

        return Component("defense", NAME, OwnNetwork, "the caller", Path(inspect.getfile(OwnNetworks)))


def _target(seed: int, network: nn.Module) -> nn.Module:
    """A copy that every stage can build again: as layers that have a description, or else as it is."""
    if not isinstance(network, nn.Module):
        raise AuditError(f"the network for seed {seed} is a {type(network).__name__}, not a torch.nn.Module")
    try:
        network = copy.deepcopy(network).eval()
    except Exception as error:  # a module is anybody's code: whatever copying it raises, its class comes along
        advice = "reset its state, which a gradient still hangs on, before the audit"
        raise AuditError(f"a {class_of(network)} cannot be copied ({_line(error)}); {advice}") from error
    try:
        described = describe(network)
    except ValueError:
        described = None
    # What forward does cannot be hashed: no stage of such a module is taken for that of another, or of an earlier.
    return network if described and _says_all(network.modules()) else Live(network, secrets.token_hex(16))


def _says_all(modules: Iterable[nn.Module]) -> bool:
    """Whether no class extends a known one in a way that its description would lose, and no hook changes a layer."""
    return all(
        (type(module) in LAYERS or any(_computes_as(type(module), known) for known in CONTAINERS))
        and not (module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))
        for module in modules
    )


def _computes_as(kind: type[nn.Module], known: type[nn.Module]) -> bool:
    """Whether all methods of ``known``, but for how it is made, are those of ``kind``."""
    methods = {name: method for name, method in vars(known).items() if callable(method) and name != "__init__"}
    return all(getattr(kind, name, None) is method for name, method in methods.items())


class _Unfit(Exception):
    """What a network answers is not what an audit needs."""


def check(network: nn.Module, task: Task, device: torch.device) -> None:
    """Call a copy on a black and a white image, then on one of them, then on both in train().

    Another number of images shows state that ``forward`` does not reset; train() is what gradient health calls as well.
    Raises AuditError that names the class, what happened and what was expected.
    """
    try:
        save(weights(network))
        tried = copy.deepcopy(network).to(device).eval()
    except Exception as error:  # a module is anybody's code: whatever it raises, its class comes along
        why = f"its weights cannot be stored: {_line(error)}"
        raise AuditError(f"a {class_of(network)} cannot be audited: {why}") from error
    pixels = torch.stack([torch.zeros(task.image_shape), torch.full(task.image_shape, 255.0)])
    x, classes = task.normalise(pixels).to(device), len(task.classes)
    try:
        if isinstance(tried, SpikingNetwork):
            _answer(tried, x, classes, torch.Generator(device).manual_seed(0))
            return
        _check_gradient(tried, x.clone().requires_grad_(), classes)
        _answer(tried, x[:1], classes)
        _answer(tried.train(), x, classes)
    except _Unfit as why:
        (low, high), shape = task.input_range, ", ".join(map(str, task.image_shape))
        wanted = f"it has to map float [N, {shape}] in [{low:g}, {high:g}] to float [N, {classes}]"
        raise AuditError(f"a {class_of(network)} cannot be audited on {task.dataset}: {why}; {wanted}") from why


def _answer(network: nn.Module, x: Tensor, classes: int, *generator: torch.Generator) -> Tensor:
    """Logits [len(x), classes]. Raises _Unfit for anything else."""
    try:
        found = network(x, *generator)
    except Exception as error:  # likewise
        raise _Unfit(f"its forward raised {_line(error)}") from error
    if not isinstance(found, Tensor) or not found.is_floating_point():
        kind = str(found.dtype) if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise _Unfit(f"it returns {kind} and not logits")
    if tuple(found.shape) != (len(x), classes):
        raise _Unfit(f"it returns {list(found.shape)} for a batch of {len(x)}")
    return found


def _check_gradient(network: nn.Module, x: Tensor, classes: int) -> None:
    """Raises _Unfit where the logits have none with respect to the image."""
    logits = _answer(network, x, classes)
    try:
        gradient = torch.autograd.grad(logits.sum(), x, allow_unused=True)[0] if logits.requires_grad else None
    except Exception as error:  # likewise
        raise _Unfit(f"its backward raised {_line(error)}") from error
    if gradient is None:
        raise _Unfit("its logits have no gradient with respect to the image (torch.no_grad or detach in forward?)")


def _line(error: Exception) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
