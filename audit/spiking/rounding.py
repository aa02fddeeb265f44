"""What every defense shares that quantises the network of another one, as fields and methods to inherit."""

import inspect
import json
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from audit.contracts import DefenseContext
from audit.data.augment import augment
from audit.networks.quantization import relative_distances, size_in_bits
from audit.spiking.files import build, describe, weights
from audit.spiking.grid import Bits, Grid, round_weights
from audit.spiking.grid_training import Batch, Count, Criterion, GridRecipe, Positive, train_on_grid
from audit.spiking.network import SpikingNetwork
from audit.store import hash_sources, hash_tensors
from audit.workshop import code

TEXT = "text"  # the tensor that keeps an artifact's JSON


@dataclass(frozen=True)
class Begun:
    """All that a network depends on before it is quantised, beside the teacher and the seed."""

    family: str
    settings: dict[str, Any]
    code: str
    images: str | None


@dataclass(frozen=True)
class Rounded:
    """The weights of the network that ``family`` makes, rounded to a `Grid`; to inherit in front of that family.

    ``bits`` None leaves them in full precision: a control that differs in nothing but the rounding. The family's fields
    are the defense's, and its network is made once for all that quantise it. Thresholds, biases and the steps of the
    grids keep 32 bits.
    """

    family: ClassVar[type[Any]]
    in_all: ClassVar[bool] = False

    bits: Bits | None = 4
    per_channel: bool = False
    grid_end: Literal["largest", "error"] = "largest"

    @property
    def grid(self) -> Grid | None:
        return None if self.bits is None else Grid(self.bits, self.per_channel, self.grid_end)

    def protect(self, teacher: nn.Sequential, context: DefenseContext) -> SpikingNetwork:
        network = self.unquantised(teacher, context)
        before = deepcopy(network.layers)
        self.tune(network, teacher, context)
        tuned = deepcopy(network.layers)
        if self.grid is not None:
            round_weights(network.layers, self.grid)
        bits = self.bits or 32
        context.notes["bits per weight"] = bits
        context.notes["size, bits"] = size_in_bits(network.layers, bits, self.per_channel)
        context.notes["relative distance of the weights, by rounding"] = relative_distances(network.layers, tuned)
        context.notes["relative distance of the weights, to those before"] = relative_distances(network.layers, before)
        return network.requires_grad_(False).eval()

    def tune(self, network: SpikingNetwork, teacher: nn.Sequential, context: DefenseContext) -> None:
        """In place, what precedes the rounding: here nothing."""

    def unquantised(self, teacher: nn.Sequential, context: DefenseContext) -> SpikingNetwork:
        """The family's network, from the store where it is there; its notes become this defense's."""
        settings = {field.name: getattr(self, field.name) for field in fields(self.family)}

        def make() -> dict[str, Tensor]:
            own = replace(context, notes={})
            network = self.family(**settings).protect(teacher, own)
            text = json.dumps({"network": describe(network), "notes": own.notes})
            return {**weights(network), TEXT: torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)}

        tensors = dict(context.stored("unquantised network", teacher, self._begun(settings, context), make))
        document = json.loads(bytes(tensors.pop(TEXT).tolist()))
        context.notes.update(document["notes"])
        network = build(document["network"], tensors)
        assert isinstance(network, SpikingNetwork)
        return network.to(context.device)

    def _begun(self, settings: dict[str, Any], context: DefenseContext) -> Begun:
        files = {Path(inspect.getfile(base)) for base in self.family.__mro__ if base is not object}
        sources = f"{hash_sources(sorted(files))} {code('spiking', 'data/augment.py')}"
        images = context.private_images
        private = None if images is None else hash_tensors({"pixels": images.pixels, "labels": images.labels})
        return Begun(self.family.__name__, settings, sources, private)


@dataclass(frozen=True)
class QuantizedInTraining(Rounded):
    """Trained on with weights that are quantised at every step, as of `train_on_grid`; to inherit likewise.

    Training begins from the family's network, so that the network rounded without it is its control. ``perception``:
    weight of the layers' `activity_distance` to that network in the loss.
    """

    tuning_epochs: Count = 20
    tuning_learning_rate: Positive = 1e-3
    tuning_batch_size: Count = 64
    perception: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    def tune(self, network: SpikingNetwork, teacher: nn.Sequential, context: DefenseContext) -> None:
        count, batch_of = self.batches(teacher, context)
        steps = self.tuned_steps
        recipe = GridRecipe(
            self.tuning_epochs, self.tuning_learning_rate, self.tuning_batch_size, steps, self.perception
        )
        context.notes["tuned through time-steps"] = steps
        context.notes["tuning_loss"] = train_on_grid(
            network, self.grid, batch_of, count, recipe, context.seed, context.monitor
        )

    @property
    def tuned_steps(self) -> int:
        """Through how many time-steps it is trained."""
        raise NotImplementedError

    def batches(self, teacher: nn.Sequential, context: DefenseContext) -> tuple[int, Batch]:
        """The number of images to train on, and what makes a batch of them."""
        raise NotImplementedError


@dataclass(frozen=True)
class QuantizedOnPrivateImages(QuantizedInTraining):
    """The same on the labelled private images, shifted by up to ``tuning_crop`` pixels; cross-entropy."""

    tuning_crop: Annotated[int, Field(ge=0)] = 4

    def batches(self, teacher: nn.Sequential, context: DefenseContext) -> tuple[int, Batch]:
        images, task = context.private_images, context.task
        assert images is not None
        context.notes["private images"] = len(images)

        def batch_of(index: Tensor, order: torch.Generator) -> tuple[Tensor, Criterion]:
            pixels = augment(images.pixels[index], self.tuning_crop, task.mirror, order)
            labels = images.labels[index].to(context.device)
            return task.normalise(pixels.to(context.device)), lambda logits: F.cross_entropy(logits, labels)

        return len(images), batch_of
