"""Forward and training step of the engine and of its peers, one after the other in one run: `make bench`.

A test here fails if results differ, never because of a time: how long things took is for the table.
"""

import time
from collections.abc import Iterator

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from benchmarks.cases import CASES, Made
from benchmarks.memory import peak_above_weights
from benchmarks.networks import images, rates
from benchmarks.peers import PEERS

RUNS = [(case, name) for case, chosen in CASES.items() for name in (*chosen.peers, "ours")]
# SpikingJelly fires at u = theta already, which rounded weights make common; all others must agree to the last bit.
# A weight rounded to bfloat16 moves spikes: what that comes to is reported.
TOLERANCE = {"SpikingJelly, multi-step": 0.05, "ours, bfloat16": 0.5}
ROUNDS = 2

_made: dict[str, Made] = {}
_reference: dict[str, tuple[Tensor, list[Tensor]]] = {}


@pytest.fixture(scope="module", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    yield
    _made.clear()
    _reference.clear()


@pytest.mark.parametrize(("case", "name"), RUNS)
def test_speed(benchmark: BenchmarkFixture, case: str, name: str) -> None:
    if case not in _made:
        _made.clear()
        _made[case] = CASES[case].make()
        network = _made[case].network
        for layer, rate in rates(network, images(4), network.time_steps).items():
            assert 0.05 <= rate <= 0.10, f"{layer} spikes at {rate:.3f}: not what the table says"
    made, seconds = _made[case], []
    simulate = PEERS[name](made.network)
    made.step(simulate, made.train[:2, :1])  # what is loaded or compiled on first use

    def step() -> tuple[Tensor, list[Tensor]]:
        begin = time.process_time()
        result = made.step(simulate, made.train)
        seconds.append(time.process_time() - begin)
        return result

    logits, gradients = benchmark.pedantic(step, rounds=1 if made.gradient else ROUNDS)
    expected, expected_gradients = _reference.setdefault(case, (logits, gradients))
    deviation = float((logits - expected).norm() / expected.norm())
    benchmark.group = case
    peak_bytes = peak_above_weights(case, name, made.network)
    benchmark.extra_info.update(
        case=case, implementation=name, cpu_seconds=min(seconds), threads=torch.get_num_threads(), deviation=deviation,
        operations=made.operations, peak_bytes=peak_bytes, matmul_flops=_matmul_flops(),
    )  # fmt: skip
    assert deviation <= TOLERANCE.get(name, 0.0)
    if name == "ours":
        for gradient, other in zip(gradients, expected_gradients, strict=True):
            assert float((gradient - other).norm() / other.norm()) <= 1e-5


def _matmul_flops() -> float:
    """The fastest of some large matrix products on this machine, at this moment, in operations per second."""
    a, best = torch.randn(2048, 2048), float("inf")
    for _ in range(4):
        begin = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - begin)
    return 2 * 2048**3 / best
