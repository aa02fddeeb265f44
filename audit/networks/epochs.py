"""Training in epochs of shuffled batches, which goes on where it was killed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from audit.contracts import Monitor
from audit.loops import Loop


class Epochs:
    """The batches of all epochs, each the indices of its examples, int64 [B] on the CPU; and the mean losses."""

    def __init__(self, loop: Loop, monitor: Monitor, count: int, batch_size: int, batches: int) -> None:
        self._loop, self._monitor = loop, monitor
        self._count, self._batch_size, self._batches = count, batch_size, batches
        self.last = False
        """Whether the batch is the last one of its epoch."""

    def __iter__(self) -> Iterator[Tensor]:
        loop = self._loop
        for n in loop:
            at = n % self._batches
            if at == 0:
                loop.order.copy_(torch.randperm(self._count, generator=loop.generator))
            self.last = at == self._batches - 1
            yield loop.order[at * self._batch_size : (at + 1) * self._batch_size]
            if self.last:
                loop.losses.append(loop.sum / self._count)
                self._monitor.scalar("loss by epoch", loop.losses[-1], len(loop.losses))
                loop.sum = 0.0

    def descend(self, loss: Tensor, optimizer: torch.optim.Optimizer, examples: int) -> None:
        """One step down the gradient of the mean loss of a batch of so many."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        self.add(loss, examples)

    def add(self, loss: Tensor, examples: int) -> None:
        """The mean loss of a batch of so many."""
        self._loop.sum += float(loss.detach()) * examples

    @property
    def losses(self) -> list[float]:
        """Of every epoch that is over."""
        found: list[float] = self._loop.losses
        return found


@contextmanager
def epochs(
    monitor: Monitor,
    description: str,
    count: int,
    batch_size: int,
    epochs: int,
    generator: torch.Generator,
    **state: Any,
) -> Iterator[Epochs]:
    """``epochs`` times all of ``count`` examples, each time in an order that the CPU ``generator`` draws.

    ``state``: everything else that a step changes, as of `audit.loops.Loop`.
    """
    batches = -(-count // batch_size)
    order = torch.zeros(count, dtype=torch.int64)
    kept = {"order": order, "generator": generator, "losses": [], "sum": 0.0, **state}
    with monitor.loop(description, epochs * batches, **kept) as loop:
        yield Epochs(loop, monitor, count, batch_size, batches)
