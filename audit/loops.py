"""A loop that says what its steps change, so that a process that is killed in it need not begin it again."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

PLAIN = (bool, int, float, str, type(None))


class Loop(SimpleNamespace):
    """The steps of a loop, from the first that is to be made.

    What its steps change is an attribute, under the name that it was handed over by: a tensor, a number, a text, None,
    a list or dict of these, or what has ``state_dict`` and ``load_state_dict`` or is a torch.Generator. Where a
    loop goes on from an earlier process, tensors of the same shape, lists, dicts and objects were changed in place;
    a tensor of another shape, or a number, is there as the attribute only. Two attributes never share memory.
    What follows the loop shall depend on nothing of it but these.

        with monitor.loop("updates", 100, x=x, optimizer=optimizer) as loop:
            for n in loop:
                ...
    """

    def __init__(self, total: int, /, **state: Any) -> None:
        if taken := set(state) & set(dir(Loop)):
            raise ValueError(f"a loop has a '{min(taken)}' of its own; hand the state over by another name")
        super().__init__(**state)
        self._names = tuple(state)
        self._total, self._step = total, 0
        self._after: list[Callable[[], None]] = []

    def __iter__(self) -> Iterator[int]:
        while self._step < self._total:
            yield self._step
            self._step += 1
            for after in self._after:
                after()

    def after_each(self, call: Callable[[], None]) -> None:
        """``call`` is called after each step."""
        self._after.append(call)

    def end(self) -> None:
        """No step follows: what `break` does not say to whoever keeps the state."""
        self._step = self._total

    @property
    def step(self) -> int:
        """How many steps are made."""
        return self._step

    def state(self) -> dict[str, Any]:
        """The steps made and everything that they changed: tensors and plain values, nothing of it shared."""
        kept = {name: _kept(getattr(self, name), name) for name in self._names}
        return {"step": self._step, "total": self._total, "state": kept, "random": _global_random_state()}

    def go_on(self, found: dict[str, Any]) -> bool:
        """Take up what `state` gave; False, and nothing is changed, where that is of a loop of another kind."""
        if found["total"] != self._total or set(found["state"]) != set(self._names):
            return False
        self._step = found["step"]
        for name, value in found["state"].items():
            setattr(self, name, _restored(getattr(self, name), value))
        torch.set_rng_state(found["random"][0])
        if found["random"][1:]:
            torch.cuda.set_rng_state_all(found["random"][1:])
        return True


def _global_random_state() -> list[Tensor]:
    """Of torch: what dropout draws from, on the CPU and on every GPU in use."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [])]


def _kept(value: Any, name: str) -> Any:
    match value:
        case Tensor():
            return value.detach().cpu().clone()
        case torch.Generator():
            return value.get_state()
        case list():
            return [_kept(one, name) for one in value]
        case tuple():
            return tuple(_kept(one, name) for one in value)
        case dict():
            return {key: _kept(one, name) for key, one in value.items()}
        case _ if isinstance(value, PLAIN):
            return value
        case _ if hasattr(value, "state_dict"):
            return _kept(value.state_dict(), name)
    raise TypeError(f"a loop cannot keep '{name}': it is a {type(value).__name__}")


def _restored(held: Any, value: Any) -> Any:
    match held:
        case Tensor():
            if held.shape != value.shape or held.dtype != value.dtype:
                return value.to(held.device)
            with torch.no_grad():
                held.copy_(value)
        case torch.Generator():
            held.set_state(value)
        case list():
            held[:] = value
        case dict():
            held.clear()
            held.update(value)
        case _ if hasattr(held, "load_state_dict"):
            held.load_state_dict(value)
        case _:
            return value
    return held
