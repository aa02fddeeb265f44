"""The paper's scale within a budget: on a machine with PyTorch and a packed data set, in as many pieces as it takes.

    python scripts/paper_run.py --data cifar10-jpeg.tar.xz --work /scratch/paper --budget-minutes 25

The archive is unpacked once. Then audits run one after the other, the most wanted first: PrivateSNN beside what it is
compared with, one seed, then three, on each of the data sets that were named. When the budget ends, the audit at work
is interrupted; what it finished stays in the store, and the same command goes on from there. The exit code is 0 when
every audit is done, 75 when there is more to do, 2 for bad input or an audit that failed, 130 after Ctrl-C.

On a CUDA device matrix products and convolutions are computed in TF32, and the neurons compiled. What travels back is
``WORK/runs``, one folder for each audit that is done.
"""

import argparse
import hashlib
import lzma
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent.parent
DONE, BAD_INPUT, MORE_TO_DO, INTERRUPTED = 0, 2, 75, 130
# What an interrupted process needs to keep its checkpoint; then it is killed, which costs a minute of its work.
GRACE_SECONDS = 45.0
# What an audit imports before it is done.
WHOLE = "import audit.cli, audit.run, audit.output"
DEFENSES = "none,data-free-conversion,dc-cet,privatesnn"


class BadInput(Exception):
    """One line: what, where, and what to do."""


@dataclass(frozen=True)
class Audit:
    """One command, and the folder that is there once it is done."""

    name: str
    words: tuple[str, ...]
    out: Path

    @property
    def done(self) -> bool:
        return (self.out / "record.json").is_file()


def audits(options: argparse.Namespace) -> list[Audit]:
    """In the order in which they are wanted: every data set with the first seed, then every one with all seeds.

    The name of each has a hash of what it asks for: other options are another audit.
    """
    made = []
    seeds = options.seeds.split(",")
    for chosen in dict.fromkeys([seeds[0], options.seeds]):
        for dataset in options.datasets.split(","):
            asked = (
                *("--defense", options.defense, "--attack", options.attack, "--profile", options.profile),
                *("--dataset", dataset, "--seeds", chosen, "--device", options.device),
                *(word for setting in options.set for word in ("--set", setting)),
            )
            short = hashlib.sha256("\0".join(asked).encode()).hexdigest()[:8]
            name = f"{dataset}-{options.profile}-seeds-{chosen.replace(',', '-')}-{short}"
            out = options.work / "runs" / name
            places = ("--data-root", str(options.work / "data"), "--store", str(options.work / "store"))
            made.append(Audit(name, (*asked, *places, "--out", str(out)), out))
    return made


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into ``folder``, whole or not at all; one that is there already is left as it is.

    Raises BadInput where it cannot be read to its end, holds what does not belong below ``folder``, or what another
    archive has put there.
    """
    try:
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        marker = folder / f".unpacked-{digest[:16]}"
        if marker.is_file():
            return
        arriving = folder / ".arriving"
        shutil.rmtree(arriving, ignore_errors=True)
        arriving.mkdir(parents=True)
        try:
            with tarfile.open(archive) as packed:
                packed.extractall(arriving, filter="data")
                while packed.fileobj is not None and packed.fileobj.read(2**20):
                    pass  # a compressed file ends with a sum over all of it
            names = sorted(path.name for path in arriving.iterdir())
            moving = folder / f".moving-{digest[:16]}"  # an earlier process of this archive was killed at it
            if not moving.is_file() and (there := [name for name in names if (folder / name).exists()]):
                raise BadInput(f"--data {archive}: {folder / there[0]} is there already; remove it, or leave this out")
            moving.touch()
            for name in names:
                shutil.rmtree(folder / name, ignore_errors=True)
                (arriving / name).rename(folder / name)
            moving.rename(marker)
        finally:
            shutil.rmtree(arriving, ignore_errors=True)
    except (OSError, EOFError, ValueError, tarfile.TarError, lzma.LZMAError, zlib.error) as error:
        raise BadInput(f"--data {archive} cannot be unpacked: {error}") from error


def environment() -> dict[str, str]:
    """Of every audit: the code beside this script, and TF32 where there is a CUDA device."""
    paths = filter(None, [str(HERE), os.environ.get("PYTHONPATH")])
    return {**os.environ, "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1", "PYTHONPATH": os.pathsep.join(paths)}


def check_packages() -> None:
    """Raises BadInput naming what is missing here."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", WHOLE], env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BadInput(f"an audit cannot run here ({last}); {sys.executable} -m pip install {shlex.quote(str(HERE))}")


def run(audit: Audit, deadline: float) -> bool:
    """Whether the audit came to its end before ``deadline``, a time of `time.monotonic`; else it is interrupted.

    So it is where this process is: nothing is left running. Raises BadInput where it fails.
    """
    command = [sys.executable, "-P", "-m", "audit", *audit.words]
    sys.stdout.write(f"{shlex.join(command)}\n")
    sys.stdout.flush()
    # A shell's background job is begun with the signal ignored, and what it starts would be as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # In a session of its own: Ctrl-C reaches this process alone, which hands it on once.
    process = subprocess.Popen(command, env=environment(), start_new_session=True)
    try:
        code = process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        _interrupt(process)
        return audit.done
    except KeyboardInterrupt:
        _interrupt(process)
        raise
    if code:
        raise BadInput(f"{audit.name} ended with exit code {code}: its last lines say why")
    return True


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with the processes that it started
        process.wait()


def work_on(wanted: Sequence[Audit], deadline: float) -> bool:
    """Whether all of them are done; a line for each that is not yet."""
    for audit in wanted:
        if audit.done or (deadline > time.monotonic() and run(audit, deadline)):
            sys.stdout.write(f"done     {audit.name}: {audit.out}\n")
        else:
            sys.stdout.write(f"to do    {audit.name}\n")
    return all(audit.done for audit in wanted)


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/paper_run.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, action="append", default=[], help="a packed data set; repeat it")
    parser.add_argument("--work", type=Path, required=True, help="a folder for data, stages and runs; kept")
    parser.add_argument("--budget-minutes", type=float, default=25.0, help="default: 25")
    parser.add_argument("--datasets", default="cifar10", help="with commas, the most wanted first; default: cifar10")
    parser.add_argument("--seeds", default="0,1,2", help="with commas; default: 0,1,2")
    parser.add_argument("--defense", default=DEFENSES, help=f"default: {DEFENSES}")
    parser.add_argument("--attack", default="paper-v1", help="default: paper-v1, the paper's two")
    parser.add_argument("--profile", default="paper", help="default: paper")
    parser.add_argument("--device", default="auto", help="default: auto")
    parser.add_argument("--set", action="append", default=[], help="group.field=value, as for an audit")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    options = arguments(words)
    deadline = time.monotonic() + 60 * options.budget_minutes - GRACE_SECONDS
    try:
        check_packages()
        if deadline <= time.monotonic():
            raise BadInput(f"--budget-minutes {options.budget_minutes:g} leaves no time; at least 1")
        options.work = options.work.absolute()
        for archive in options.data:
            unpack(archive, options.work / "data")
        return DONE if work_on(audits(options), deadline) else MORE_TO_DO
    except BadInput as error:
        sys.stderr.write(f"error: {error}\n")
        return BAD_INPUT
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on from here\n")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
