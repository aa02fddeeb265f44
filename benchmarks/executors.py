"""One run by every executor: how much sooner it ends, and what a piece costs that is in the store (on Linux).

python -m benchmarks.executors --defense privatesnn --attack class-leakage-v2 --jobs 2    measure, and print a table
python -m benchmarks.executors ... --keep     and write the record beside this file, and its table into docs/clusters.md
python -m benchmarks.executors --show         the table of the kept record
python -m benchmarks.executors --check        whether page and kept record agree

All executors take turns in this one process, each run on an empty store of its own, so that what counts are the ratios.
The last one is Ray that loses a process in the middle. Every record has to be that of one process but for its times.
"""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch

from audit.errors import AuditError
from audit.executors import Crew, Made, OnRay
from audit.monitor import SilentMonitor
from audit.piecework import begin, make_piece
from audit.plan import Piece
from audit.request import Request, resolve
from audit.run import run
from audit.settings import parse_options
from audit.store import Store
from audit.workers import Workers, workers

KEPT = Path(__file__).with_name("executors.json")
PAGE = Path(__file__).parent.parent / "docs" / "clusters.md"
MARKS = "<!-- executors: benchmarks/executors.json -->", "<!-- /executors -->"
HEAD = ("executor", "run, s", "times as fast", "begins after, s", "a stored piece, ms", "record")
Row = dict[str, Any]


class Here:
    """The executor that one process is: makes a piece when it is given."""

    where = "in this process"
    most: int | None = 1
    lost: tuple[type[Exception], ...] = ()

    def __init__(self, store: Store, threads: int) -> None:
        self.threads = threads
        begin(store, threads)

    def pack(self, request: Request) -> Request:
        return request

    def submit(self, packed: bytes, piece: Piece) -> Made:
        made: Made = Future()
        made.set_result(make_piece(packed, piece))
        return made

    def advice(self, error: Exception) -> str:
        return str(error)


class Killing(SilentMonitor):
    """Ends one process of Ray's, in the midst of a piece, when ``after`` pieces are made."""

    def __init__(self, after: int) -> None:
        self.left, self.killed = after, 0

    @contextmanager
    def steps(self, description: str, total: int) -> Iterator[Callable[[], None]]:
        yield self._count

    def _count(self) -> None:
        self.left -= 1
        if self.left <= 0 and not self.killed:
            self.killed = next(_at_work(), 0)
            if self.killed:
                os.kill(self.killed, signal.SIGKILL)


def _at_work() -> Iterator[int]:
    """The processes below this one that are making a piece on Ray."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            busy = path.joinpath("cmdline").read_bytes().startswith(b"ray::_make")
            ancestor = int(path.name)
            while busy and ancestor > 1 and ancestor != os.getpid():
                ancestor = int(Path(f"/proc/{ancestor}/stat").read_text().rpartition(")")[2].split()[1])
            if busy and ancestor == os.getpid():
                yield int(path.name)
        except OSError:
            continue


@contextmanager
def at_work(crew: Crew | None, store: Store) -> Iterator[Workers]:
    """None: one process."""
    if crew is None:
        yield Workers(Here(store, torch.get_num_threads()))
        return
    with workers(crew, store, torch.device("cpu")) as found:
        assert found is not None
        yield found


def measure(name: str, crew: Crew | None, request: Request, kill_after: int | None) -> tuple[Row, dict[str, Any]]:
    """Seconds of the run, of giving out its pieces once more while all is in the store, and of that with the start of
    the executor; and the record."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        killing = None if kill_after is None else Killing(kill_after)
        began = time.perf_counter()
        with at_work(crew, store) as these:
            (made,) = these.spread([request], killing or SilentMonitor())
            finished = run(request, store, SilentMonitor(), made)
            took = time.perf_counter() - began
            warm = _again(these, request)
        began = time.perf_counter()
        with at_work(crew, store) as these:
            _again(these, request)
            cold = time.perf_counter() - began
    if killing is not None and not killing.killed:
        raise AuditError("no process was killed: a longer run is needed")
    stages = [line for line in finished.record.stages if not line.cached]
    row = {
        "executor": name,
        "seconds": took,
        "warm_seconds": warm,
        "cold_seconds": cold,
        "stages": len(stages),
        "stage_seconds": sum(line.wall_seconds for line in stages),
    }
    return row, finished.record.model_dump(mode="json", exclude={"created", "stages"})


def _again(these: Workers, request: Request) -> float:
    began = time.perf_counter()
    these.spread([request], SilentMonitor())
    return time.perf_counter() - began


class Counting(SilentMonitor):
    """How many pieces there are."""

    count = 0

    @contextmanager
    def steps(self, description: str, total: int) -> Iterator[Callable[[], None]]:
        self.count += total if description == Here.where else 0
        yield lambda: None


def measured(request: Request, jobs: int, rounds: int) -> dict[str, Any]:
    """The record of all executors, in turns."""
    counting = Counting()
    with tempfile.TemporaryDirectory() as folder, at_work(None, Store(Path(folder))) as these:
        these.spread([request], counting)  # and what a process makes but once, as the engine's kernels, is made
    kinds: list[tuple[str, Crew | None, int | None]] = [
        ("one process", None, None),
        (f"{jobs} processes", Crew(jobs, 1), None),
        (f"Ray, {jobs} at a time", Crew(jobs, 1, OnRay()), None),
        (f"Ray, {jobs} at a time, a process killed", Crew(jobs, 1, OnRay()), counting.count // 2),
    ]
    rows: dict[str, list[Row]] = {name: [] for name, _, _ in kinds}
    alone: dict[str, Any] = {}
    for _ in range(rounds):
        for name, crew, kill_after in kinds:
            row, record = measure(name, crew, request, kill_after)
            alone = alone or record
            rows[name].append({**row, "equal": record == alone})
            sys.stderr.write(f"{name}: {row['seconds']:.1f} s\n")
    return {
        "made_with": {
            "commit": alone["environment"]["git_revision"],
            "processor": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "packages": {name: version(name) for name in ("torch", "ray")},
        },
        "command": " ".join(["python -m benchmarks.executors", *sys.argv[1:]]),
        "pieces": counting.count,
        "rounds": rounds,
        "rows": [_middle(several) for several in rows.values()],
    }


def _middle(several: Sequence[Row]) -> Row:
    numbers = {k: median(row[k] for row in several) for k, v in several[0].items() if isinstance(v, float)}
    return {**several[0], **numbers, "equal": all(row["equal"] for row in several)}


def markdown(results: dict[str, Any]) -> str:
    one = results["rows"][0]
    lines = [HEAD, ("---", *["---:"] * (len(HEAD) - 2), "---")]
    for row in results["rows"]:
        lines.append(
            (
                row["executor"],
                f"{row['seconds']:.1f}",
                f"{one['seconds'] / row['seconds']:.2f}",
                "" if row is one else f"{row['cold_seconds'] - row['warm_seconds']:.1f}",
                f"{1000 * row['warm_seconds'] / results['pieces']:.0f}",
                "equal" if row["equal"] else "DIFFERS",
            )
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def with_table(text: str, results: dict[str, Any]) -> str:
    """The page's text with the table of ``results``, and the command that made it. Raises AuditError without marks."""
    before, begin, rest = text.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (begin and end):
        raise AuditError(f"{PAGE.name}: the marks {MARKS[0]} ... {MARKS[1]} are missing")
    made_with = results["made_with"]
    packages = ", ".join(f"{name} {number}" for name, number in made_with["packages"].items())
    origin = (
        f"{results['pieces']} pieces, the median of {results['rounds']} rounds; {made_with['processor']}, "
        f"Python {made_with['python']}, {packages}, revision {made_with['commit']}:"
    )
    return f"{before}{begin}\n\n{origin}\n\n    {results['command']}\n\n{markdown(results)}\n{end}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--defense", default="privatesnn")
    parser.add_argument("--attack", default="all")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--set", action="append", default=[], help="as of python -m audit")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1, help="the median of so many is taken")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.show or options.check:
        kept = json.loads(KEPT.read_text())
        if options.check and with_table(PAGE.read_text(), kept) != PAGE.read_text():
            raise AuditError(f"{PAGE.name}: its table is not that of {KEPT.name}")
        sys.stdout.write(markdown(kept))
        return
    torch.set_num_threads(1)
    passed = parse_options(options.set)
    what = (options.defense, options.attack, options.dataset, None, options.profile, (0,), None, "cpu", passed)
    results = measured(resolve(*what, "python -m benchmarks.executors"), options.jobs, options.rounds)
    if options.keep:
        KEPT.write_text(json.dumps(results, indent=1) + "\n")
        PAGE.write_text(with_table(PAGE.read_text(), results))
    sys.stdout.write(markdown(results))


if __name__ == "__main__":
    try:
        main()
    except AuditError as error:
        raise SystemExit(f"error: {error}") from error
