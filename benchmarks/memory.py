"""Peak memory of one simulation, in a process of its own: `python -m benchmarks.memory CASE NAME FILE THREADS`."""

import ctypes
import gc
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from audit.spiking.files import load_network, save_network
from audit.spiking.network import SpikingNetwork
from benchmarks.cases import CASES
from benchmarks.peers import PEERS


def peak_above_weights(case: str, implementation: str, network: SpikingNetwork) -> int:
    """Bytes that the simulation adds to the largest resident size of its process, measured in a new one (on Linux)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # there must be room for two
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.safetensors"
        save_network(network, path)
        threads = str(torch.get_num_threads())
        command = [sys.executable, "-m", "benchmarks.memory", case, implementation, str(path), threads]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(json.loads(done.stdout.splitlines()[-1]))


def main(case: str, implementation: str, path: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    network = load_network(Path(path))
    assert isinstance(network, SpikingNetwork)
    made = CASES[case].of(network)
    simulate = PEERS[implementation](made.network)
    made.step(simulate, made.train[:2, :1])  # what a library loads on its first use is not the simulation's
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # begin the high-water mark anew
    made.step(simulate, made.train)
    sys.stdout.write(f"{_resident('VmHWM') - before}\n")


def _resident(field: str) -> int:
    """Bytes, as Linux counts them for this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main(*sys.argv[1:])
