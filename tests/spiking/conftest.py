"""The engine with and without its kernels."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from audit.spiking.kernels import SWITCH, Kernels, kernels

Without = Callable[[], AbstractContextManager[None]]


@pytest.fixture(scope="session")
def library() -> Kernels:
    """The kernels, where this machine has them."""
    found = kernels()
    if found is None:
        pytest.skip("the kernels are switched off, or there is no C++ compiler to build them")
    return found


@pytest.fixture
def rebuilt() -> Iterator[None]:
    """What the test's environment says about the kernels is asked anew, and forgotten after it."""
    kernels.cache_clear()
    yield
    kernels.cache_clear()


@contextmanager
def _without_kernels() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SWITCH, "off")
        kernels.cache_clear()
        assert kernels() is None
        yield
    kernels.cache_clear()


@pytest.fixture(scope="session")
def without_kernels() -> Without:
    """A context in which torch computes everything."""
    return _without_kernels
