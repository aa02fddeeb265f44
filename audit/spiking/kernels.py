"""The compiled kernels: built once per machine, loaded with ctypes; without a compiler the engine uses torch alone."""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from audit.spiking.memory import Pool
from audit.spiking.surrogate import Surrogate

SOURCE = Path(__file__).with_name("kernels.cpp")
SWITCH = "AUDIT_KERNELS"
"""Environment variable: 'off' keeps the engine on torch's dense operations."""

COMPILERS = ("c++", "g++", "clang++")
# No contraction: multiply, round, add, as torch does, so that a neuron's spikes are the same to the last bit.
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
SHAPES = ("triangle", "rectangle", "arctan", "sigmoid")
BLOCKS = (16, 32, 64)  # output channels that the convolution sums at once
MANY_EVENTS = 24  # per kernel row and output pixel: then it pays to walk over an image once per kernel row

_log = logging.getLogger(__name__)
_pointer, _count, _flag, _number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_float
_SIGNATURES = {
    "count_events": (_count, (_pointer, _count, _count, _pointer, _pointer)),
    "list_events": (None, (_pointer, _count, _count, _count, _pointer, _pointer, _pointer)),
    "convolve": (None, (*(_pointer,) * 7, _count, _flag)),
    "gradient_block": (_count, ()),
    "weight_gradient": (None, (_pointer,) * 6),
    "fire": (
        _count,
        (_pointer, _count, _pointer, _pointer, _count, _number, _flag, _pointer, _pointer, _count, _count),
    ),
    "fire_backward": (
        None,
        (*(_pointer,) * 4, _count, _number, _flag, _flag, _number, _number, _flag, _pointer, _count, _count),
    ),
}


@dataclass(frozen=True)
class Events:
    """The non-zero values of images [N, C, H, W], pixel after pixel in channels-last order.

    ``first`` int32 [N H W + 1]: where each pixel's events begin; ``index`` int32 [E]: column times C plus channel;
    ``value`` float32 [E], None where all are 1.
    """

    shape: torch.Size
    first: Tensor
    index: Tensor
    value: Tensor | None

    @property
    def density(self) -> float:
        return len(self.index) / max(1, self.shape.numel())


@dataclass(frozen=True)
class Packed:
    """A convolution's weights as the kernel reads them: ``weight`` [blocks, kh, kw, C, block]; ``bias`` padded."""

    weight: Tensor
    bias: Tensor | None
    block: int

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None) -> "Packed":
        """From [K, C, kh, kw] and [K]."""
        outputs = len(weight)
        block = next((size for size in BLOCKS if size >= outputs), BLOCKS[-1])
        blocks = -(-outputs // block)
        full = weight.new_zeros(blocks * block, *weight.shape[1:])
        full[:outputs] = weight.detach()
        packed = full.unflatten(0, (blocks, block)).permute(0, 3, 4, 2, 1).contiguous()
        if bias is None:
            return cls(packed, None, block)
        padded = bias.new_zeros(blocks * block)
        padded[:outputs] = bias.detach()
        return cls(packed, padded, block)


class Kernels:
    """The functions of kernels.cpp on float32 CPU tensors. Images are channels-last in memory."""

    def __init__(self, library: Path) -> None:
        self._functions = ctypes.CDLL(str(library))
        for name, (result, arguments) in _SIGNATURES.items():
            function = self._functions[f"audit_{name}"]
            function.restype, function.argtypes = result, arguments
            setattr(self._functions, f"audit_{name}", function)
        self._gradient_block = int(self._functions.audit_gradient_block())

    def count(self, x: Tensor) -> tuple[Tensor, int, bool]:
        """Of ``x`` [N, C, H, W]: events per pixel, int32 [N, H, W]; how many in all; whether all of them are 1."""
        batch, channels, height, width = x.shape
        counts = torch.empty(batch, height, width, dtype=torch.int32)
        ones = ctypes.c_int64()
        total = self._functions.audit_count_events(
            x.data_ptr(), counts.numel(), channels, counts.data_ptr(), ctypes.addressof(ones)
        )
        return counts, int(total), ones.value == total

    def events(self, x: Tensor, counts: Tensor, total: int, binary: bool) -> Events:
        """What `count` counted."""
        first = torch.zeros(counts.numel() + 1, dtype=torch.int32)
        torch.cumsum(counts.view(-1), 0, dtype=torch.int32, out=first[1:])
        index = torch.empty(total, dtype=torch.int32)
        value = None if binary else torch.empty(total)
        self._functions.audit_list_events(
            x.data_ptr(), counts.numel(), x.shape[3], x.shape[1], first.data_ptr(), index.data_ptr(), _address(value)
        )
        return Events(x.shape, first, index, value)

    def convolve(self, events: Events, packed: Packed, geometry: Tensor, pool: Pool) -> Tensor:
        """[N, K, Ho, Wo], channels-last. ``geometry`` from `geometry_of`."""
        batch, height, width, outputs, kernel_width = (int(geometry[i]) for i in (0, 4, 5, 6, 8))
        by_rows = events.density * events.shape[1] * kernel_width >= MANY_EVENTS
        out = pool.empty(batch, height, width, outputs)
        tensors = events.first, events.index, events.value, packed.weight, packed.bias, out, geometry
        self._functions.audit_convolve(*map(_address, tensors), packed.block, by_rows)
        return out.permute(0, 3, 1, 2)

    def weight_gradient(self, events: Events, grad_out: Tensor, geometry: Tensor) -> Tensor:
        """[K, C, 3, 3] of a 3x3 convolution with stride 1, from ``grad_out`` [N, K, Ho, Wo], channels-last."""
        outputs, channels = grad_out.shape[1], events.shape[1]
        blocks = -(-outputs // self._gradient_block)
        result = torch.zeros(blocks, channels, 3, 3, self._gradient_block)
        self._functions.audit_weight_gradient(
            events.first.data_ptr(), events.index.data_ptr(), _address(events.value),
            grad_out.data_ptr(), result.data_ptr(), geometry.data_ptr(),
        )  # fmt: skip
        return result.permute(0, 4, 1, 2, 3).flatten(0, 1)[:outputs].contiguous()

    def fire(
        self, current: Tensor, steps: int, u: Tensor, threshold: Tensor, leak: float, hard: bool, keep: bool, pool: Pool
    ) -> tuple[Tensor, Tensor | None, int]:
        """``steps`` of the neuron: ``current`` [steps, R, P], or [1, R, P] that stays the same; ``threshold`` [P];
        ``u`` [R, P], the potential, is updated in place.

        Returns spikes [steps, R, P], where asked for (``keep``) every potential before reset, and the number of spikes.
        """
        spikes = pool.empty(steps, *u.shape)
        kept = pool.empty(steps, *u.shape) if keep else None
        current = current.contiguous()
        count = self._functions.audit_fire(
            current.data_ptr(), u.numel() if len(current) == steps else 0, u.data_ptr(), threshold.data_ptr(),
            threshold.numel(), leak, hard, spikes.data_ptr(), _address(kept), steps, u.numel(),
        )  # fmt: skip
        return spikes, kept, int(count)

    def fire_backward(
        self,
        potentials: Tensor,
        grad_spikes: Tensor,
        grad_potential: Tensor,
        threshold: Tensor,
        leak: float,
        hard: bool,
        surrogate: Surrogate,
        grad_current: Tensor,
    ) -> Tensor:
        """From what `fire` kept, and the gradients of its results, to the gradient of the first potential.

        That of the current is written into ``grad_current``, which may be ``potentials`` itself.
        """
        carried = grad_potential.clone()
        self._functions.audit_fire_backward(
            potentials.data_ptr(), grad_spikes.data_ptr(), carried.data_ptr(), threshold.data_ptr(), threshold.numel(),
            leak, hard, SHAPES.index(surrogate.shape), surrogate.width, surrogate.gain, surrogate.per_threshold,
            grad_current.data_ptr(), len(potentials), carried.numel(),
        )  # fmt: skip
        return carried


@cache
def kernels() -> Kernels | None:
    """The kernels, built on first use; None, with one line that says why, where they cannot be."""
    if os.environ.get(SWITCH, "").lower() == "off":
        return None
    try:
        return _load()
    except (OSError, AttributeError, subprocess.SubprocessError) as error:
        _log.warning(
            "the engine's kernels are not used (%s); the same results come slower from dense operations", error
        )
        return None


def engine() -> str:
    """Which code computes on a CPU here: 'event-driven kernels' or 'dense operations'."""
    return "dense operations" if kernels() is None else "event-driven kernels"


def _load() -> Kernels:
    """From the user's cache, where a library for this source, compiler and processor lies, or compiled into it."""
    compiler = os.environ.get("CXX") or next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise OSError(f"no C++ compiler found: install one, or name it in CXX; looked for {', '.join(COMPILERS)}")
    # A home folder may be shared between machines: what was compiled for one processor may not run on another.
    parts = (SOURCE.read_text(), compiler, " ".join(FLAGS), platform.machine(), _processor(), torch.__version__)
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    folder = _cache_folder()
    library = None if folder is None else folder / f"{key}.so"
    if library is not None and library.exists():
        try:
            return Kernels(library)
        except (OSError, AttributeError):
            _log.warning("%s is damaged and is built again", library)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = _compile(compiler, Path(scratch) / "kernels.so")
        loaded = Kernels(made)  # before it has its name: what does not load is not kept
        if library is not None:
            made.replace(library)
        return loaded


def _cache_folder() -> Path | None:
    """Where libraries are kept; None where there is no place to write to."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "snn-privacy-audit" / "kernels"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return folder if os.access(folder, os.W_OK) else None


def _compile(compiler: str, target: Path) -> Path:
    """Try the fastest code first; a compiler that does not know an option is asked again without it."""
    wide = ("-march=native", "-mprefer-vector-width=512")
    for options in ((*wide, "-fopenmp"), ("-march=native", "-fopenmp"), ("-march=native",), ()):
        command = [*shlex.split(compiler), *FLAGS, *options, str(SOURCE), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode == 0:
            return target
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    raise OSError(f"{compiler} could not compile {SOURCE.name}: {lines[-1]}")


def _processor() -> str:
    """What the processor can do, as the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def geometry_of(
    shape: torch.Size, outputs: int, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """The numbers of a convolution in the kernel's order, int64 [13], for images [N, C, H, W]."""
    batch, channels, *size = shape
    out = [(size[d] + 2 * padding[d] - kernel[d]) // stride[d] + 1 for d in (0, 1)]
    return torch.tensor([batch, *size, channels, *out, outputs, *kernel, *stride, *padding], dtype=torch.int64)


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
