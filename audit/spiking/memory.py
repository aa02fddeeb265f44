"""Memory of large CPU tensors, used again instead of being given back: fresh pages cost more than what fills them."""

import math
import mmap
import weakref

import numpy as np
import torch
from torch import Tensor

# Below this size the system's allocator does well; above it, it maps fresh pages for nearly every tensor.
SMALL = 2**19
HUGE_PAGE = 2**21
SPARE = 4  # unused blocks of one size that are kept; what is beyond goes back to the system


class Pool:
    """Hands out uninitialised float32 tensors; the memory of one that is gone serves the next of about its size.

    The memory is given back when the pool and all its tensors are gone.
    """

    def __init__(self) -> None:
        self._free: list[mmap.mmap] = []

    def empty(self, *shape: int) -> Tensor:
        """A contiguous float32 tensor on the CPU."""
        count = math.prod(shape)
        if count * 4 < SMALL:
            return torch.empty(shape)
        block = self._block(count * 4)
        array = np.frombuffer(block, dtype=np.float32, count=count)
        # The tensor holds the array, and nothing else does: when the tensor goes, the block is free.
        weakref.finalize(array, _give_back, block, self._free).atexit = False
        return torch.from_numpy(array).view(shape)

    def empty_like(self, tensor: Tensor) -> Tensor:
        return self.empty(*tensor.shape)

    def _block(self, size: int) -> mmap.mmap:
        """The smallest free block that holds ``size`` bytes and wastes no more than an eighth."""
        fitting = [i for i, block in enumerate(self._free) if size <= len(block) <= max(size * 9 // 8, _rounded(size))]
        if fitting:
            return self._free.pop(min(fitting, key=lambda i: len(self._free[i])))
        block = _mapped(_rounded(size))
        if hasattr(mmap, "MADV_HUGEPAGE"):
            block.madvise(mmap.MADV_HUGEPAGE)
        return block


def _mapped(size: int) -> mmap.mmap:
    # Python's default is shared memory: a forked process would write into ours, and there are no large pages for it.
    if hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, size)


def _give_back(block: mmap.mmap, free: list[mmap.mmap]) -> None:
    if sum(len(other) == len(block) for other in free) < SPARE:
        free.append(block)


def _rounded(size: int) -> int:
    pages = HUGE_PAGE if size >= HUGE_PAGE else mmap.PAGESIZE
    return -(-size // pages) * pages
