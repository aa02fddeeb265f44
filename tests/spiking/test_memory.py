"""Memory is used again when nothing holds it any more, and never before."""

import gc
import os
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.spiking.memory import SMALL, SPARE, Pool

LARGE = SMALL // 4  # float32 numbers: from here on the pool has its own memory


def test_the_memory_of_a_dead_tensor_serves_the_next_of_its_size() -> None:
    pool = Pool()
    first = pool.empty(LARGE, 2)
    address = first.data_ptr()
    del first
    again = pool.empty(2, LARGE)
    assert again.data_ptr() == address
    assert again.shape == (2, LARGE)
    assert again.is_contiguous()
    assert again.dtype == torch.float32


def test_a_slightly_smaller_tensor_takes_it_and_a_much_smaller_one_does_not() -> None:
    pool = Pool()
    address = pool.empty(8 * LARGE).data_ptr()
    assert pool.empty(8 * LARGE - 1000).data_ptr() == address
    assert pool.empty(2 * LARGE).data_ptr() != address
    assert pool.empty(16 * LARGE).data_ptr() != address


@pytest.mark.parametrize("keep", [lambda t: t[3:5], lambda t: t.view(-1, 4).T, lambda t: t.detach(), torch.flatten])
def test_a_view_keeps_the_memory_alive(keep) -> None:  # type: ignore[no-untyped-def]
    pool = Pool()
    tensor = pool.empty(LARGE).fill_(1.0)
    view = keep(tensor)
    address = tensor.data_ptr()
    del tensor
    gc.collect()
    other = pool.empty(LARGE).fill_(2.0)
    assert other.data_ptr() != address
    assert bool((view == 1).all())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_does_not_write_into_our_tensors() -> None:
    tensor = Pool().empty(LARGE).fill_(1.0)
    if (child := os.fork()) == 0:
        tensor.zero_()
        os._exit(0)
    os.waitpid(child, 0)
    assert bool((tensor == 1).all())


def test_memory_beyond_a_few_spare_blocks_goes_back_to_the_system() -> None:
    pool = Pool()
    tensors = [pool.empty(LARGE) for _ in range(SPARE + 3)] + [pool.empty(2 * LARGE)]
    assert pool._free == []
    del tensors
    assert sorted(len(block) for block in pool._free) == [4 * LARGE] * SPARE + [8 * LARGE]


def test_what_autograd_saved_keeps_the_memory_alive() -> None:
    pool, x = Pool(), torch.ones(LARGE, requires_grad=True)
    loss = (x * pool.empty(LARGE).fill_(3.0)).sum()
    pool.empty(LARGE).fill_(7.0)
    loss.backward()
    assert x.grad is not None
    assert bool((x.grad == 3).all())


def test_a_small_tensor_is_the_allocators_own() -> None:
    pool = Pool()
    for _ in range(3):
        pool.empty(LARGE - 1)
    pool.empty(0, 5)
    assert pool._free == []
    del _
    pool.empty(LARGE)
    assert len(pool._free) == 1


def test_a_tensor_outlives_its_pool_and_the_memory_goes_with_both() -> None:
    pool = Pool()
    tensor, gone = pool.empty(LARGE).fill_(5.0), weakref.ref(pool)
    del pool
    assert gone() is None
    assert bool((tensor == 5).all())


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 7), st.integers(1, 6)), max_size=40))
def test_living_tensors_never_share_memory(actions: list[tuple[bool, int, int]]) -> None:
    pool, alive = Pool(), dict[int, torch.Tensor]()
    for n, (drop, place, size) in enumerate(actions):
        alive.pop(place, None)
        if not drop:
            alive[place] = pool.empty(size, LARGE // 3).fill_(n * 8.0 + place)
        for key, tensor in alive.items():
            assert tensor.min() == tensor.max()
            assert int(tensor.view(-1)[0]) % 8 == key
