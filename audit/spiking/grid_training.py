"""Quantisation inside the training of a spiking network, through time, and what keeps its activity."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from audit.contracts import Monitor
from audit.errors import AuditError
from audit.networks.epochs import epochs
from audit.spiking.grid import Grid, rounded
from audit.spiking.network import SpikingNetwork
from audit.spiking.watching import Watcher, watched_logits

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Criterion = Callable[[Tensor], Tensor]
Batch = Callable[[Tensor, torch.Generator], tuple[Tensor, Criterion]]
"""(which images, int64 [B] on the CPU; a CPU generator) -> images [B, C, H, W] in the input range on the network's
device, and the loss of their logits [B, K]."""
EVERYTHING = 2**62  # bytes: every time-step is kept, since the loss asks for the spikes of all of them


@dataclass(frozen=True)
class GridRecipe:
    """Adam, the rate falling to 0 along a half cosine, through ``time_steps``.

    ``perception``: weight of the `activity_distance` to the network before its training, added to the loss.
    """

    epochs: Count
    learning_rate: Positive
    batch_size: Count
    time_steps: Count
    perception: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


def train_on_grid(
    network: SpikingNetwork,
    grid: Grid | None,
    batch_of: Batch,
    count: int,
    recipe: GridRecipe,
    seed: int,
    monitor: Monitor,
) -> list[float]:
    """Train ``network`` in place on ``count`` images through its rounded weights; returns the mean loss of every epoch.

    For every batch: quantise, forward, backward, restore the full-precision weights, step them by the gradients at the
    quantised ones (straight-through; Algorithm 2 of the quantisation paper). Without a ``grid``, the same training in
    full precision. The network is left in eval() with full-precision weights, which `grid.round_weights` rounds.
    Raises AuditError where the loss stops being finite.
    """
    device = next(network.parameters()).device
    reference = deepcopy(network).requires_grad_(False).train() if recipe.perception else None
    generator = torch.Generator(device).manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    network.train().requires_grad_(True)
    execution = network.execution
    if reference is not None:
        network.execution = replace(execution, memory=EVERYTHING)
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    steps = recipe.epochs * -(-count // recipe.batch_size)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    state = {"network": network, "optimizer": optimizer, "scheduler": scheduler, "draws": generator}
    with epochs(
        monitor, "training quantised weights", count, recipe.batch_size, recipe.epochs, order, **state
    ) as batches:
        for index in batches:
            x, criterion = batch_of(index, order)
            with _rounded(network, grid):
                if reference is None:
                    loss = criterion(network(x, generator, recipe.time_steps))
                else:
                    loss = _kept_activity_loss(network, reference, x, criterion, recipe, generator)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
            if not torch.isfinite(loss):
                raise AuditError(
                    "training quantised weights diverged: the loss is not finite; lower defense.tuning_learning_rate"
                )
            optimizer.step()
            scheduler.step()
            batches.add(loss, len(index))
    network.execution = execution
    network.eval()
    return batches.losses


def activity_distance(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> Tensor:
    """How far layers' spike activity is from what it should be: mean over layers of |a - a'|^2 / |a'|^2.

    Both hold, by layer, the spikes per neuron of every image over all time-steps, [B]. A layer that should be silent
    has no scale and is left out.
    """
    distances = [
        (found[name] - activity).square().sum() / activity.square().sum()
        for name, activity in wanted.items()
        if bool(activity.any())
    ]
    return torch.stack(distances).mean() if distances else torch.zeros(())


def activity_into(found: dict[str, Tensor]) -> Watcher:
    """Adds up, by layer, the spikes per neuron of every image, [B]; differentiable where the spikes are."""

    def watch(name: str, spikes: Tensor) -> None:
        activity = spikes.flatten(2).mean(2).sum(0)
        found[name] = found[name] + activity if name in found else activity

    return watch


def _kept_activity_loss(
    network: SpikingNetwork,
    reference: SpikingNetwork,
    x: Tensor,
    criterion: Criterion,
    recipe: GridRecipe,
    generator: torch.Generator,
) -> Tensor:
    # The same spike trains and the same dropout masks for both: only the weights differ.
    twin = torch.Generator(generator.device)
    twin.set_state(generator.get_state())
    wanted: dict[str, Tensor] = {}
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        watched_logits(reference, x, activity_into(wanted), twin, recipe.time_steps)
    logits = watched_logits(network, x, activity_into(found), generator, recipe.time_steps)
    return criterion(logits) + recipe.perception * activity_distance(found, wanted)


def _rounded(network: SpikingNetwork, grid: Grid | None) -> AbstractContextManager[None]:
    return nullcontext() if grid is None else rounded(network.layers, grid)
