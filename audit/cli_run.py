"""What the commands that run audits share: their options, where stages are kept, and Ctrl-C."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from audit.errors import AuditError

if TYPE_CHECKING:
    import torch

    from audit.contracts import Monitor
    from audit.executors import Crew
    from audit.store import Store
    from audit.workers import Workers

NAMES = "Names with commas, 'all' and Python files among them."
Attack = Annotated[str, typer.Option(help="Names with commas, 'all' and Python files among them; or 'none'.")]
Dataset = Annotated[str | None, typer.Option(help="Default: the profile's.")]
Model = Annotated[str | None, typer.Option(help="The teacher's architecture. Default: the profile's.")]
Profile = Annotated[str, typer.Option(help="smoke, small or paper: defaults for every setting.")]
Seed = Annotated[int | None, typer.Option(help="One seed. Default: 0.")]
Seeds = Annotated[str | None, typer.Option(help="Several seeds, with commas.")]
DataRoot = Annotated[Path | None, typer.Option(help="Where the data is. Default: the environment's AUDIT_DATA.")]
ImageSize = Annotated[int | None, typer.Option(help="Resize the shorter side and crop the centre.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:0.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="group.field=value, as in defense.time_steps=100.")]
Jobs = Annotated[
    int | None,
    typer.Option(
        envvar="AUDIT_JOBS",
        help="Pieces at a time. Default: one per core, at most 4; one on a GPU; on Ray what fits.",
    ),
]
Threads = Annotated[int | None, typer.Option(help="CPU threads of each process. Default: the cores shared out.")]
StoreRoot = Annotated[
    str | None,
    typer.Option("--store", help="Where stages are kept: a folder, or a URL. Default: the environment's AUDIT_STORE."),
]
Executor = Annotated[str, typer.Option(help="Where stages are made: local, in processes of this machine, or ray.")]
Address = Annotated[str | None, typer.Option(help="Of the Ray cluster: host:port, or auto. Default: a Ray of its own.")]
Ray = Annotated[
    list[str] | None, typer.Option("--ray", help="Of each piece on Ray: gpus=0.5, memory=4 (GB), retries=3.")
]

Log = Annotated[
    Path | None, typer.Option("--log", help="Where the log goes, a JSON object per line. Default: a file in the store.")
]
TensorBoard = Annotated[
    str | None,
    typer.Option("--tensorboard", envvar="AUDIT_TENSORBOARD", help="A folder for curves of losses and margins."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print warnings and errors only.")]

err_console = Console(stderr=True)


def command_line() -> str:
    """The command as the user can type it again."""
    return " ".join(["python -m audit", *map(shlex.quote, sys.argv[1:])])


def passed_settings(set_: list[str] | None, image_size: int | None) -> dict[str, str]:
    """'group.field' -> text, of --set and --image-size. Raises AuditError for another form, and a field set twice."""
    from audit.settings import parse_options

    passed = parse_options(set_ or [])
    if image_size is not None:
        if "data.image_size" in passed:
            raise AuditError("pass --image-size or --set data.image_size, not both")
        passed["data.image_size"] = str(image_size)
    return passed


def chosen_seeds(seed: int | None, seeds: str | None) -> tuple[int, ...]:
    """Of --seed and --seeds; 0 without either. Raises AuditError for both, and for what are no whole numbers."""
    if seed is not None and seeds is not None:
        raise AuditError("pass --seed or --seeds, not both")
    if seeds is None:
        return (seed or 0,)
    try:
        return tuple(int(part) for part in seeds.split(","))
    except ValueError as error:
        raise AuditError(f"--seeds {seeds}: write whole numbers with commas, for example --seeds 0,1,2") from error


def chosen_crew(
    jobs: int | None,
    threads: int | None,
    executor: str,
    address: str | None,
    ray: list[str] | None,
    device: "torch.device",
) -> "Crew":
    """Of --jobs, --threads, --executor, --address and --ray. Raises AuditError for what does not go together."""
    from audit.executors import ray_settings
    from audit.workers import shares

    return shares(jobs, threads, device, ray_settings(executor, address, ray or ()))


def draw_curves(folder: str | None) -> None:
    """Of every stage that this process, or one that it starts, will make. Raises AuditError without TensorBoard."""
    from audit.curves import VARIABLE, check

    if folder:
        os.environ[VARIABLE] = str(Path(folder).absolute())
        check()


@contextmanager
def resumable(
    store_address: str | None,
    crew: "Crew",
    device: "torch.device",
    written: str,
    log: Path | None = None,
    quiet: bool = False,
) -> Iterator[tuple["Store", "Monitor", "Workers | None"]]:
    """A store that can be written to, a progress display unless ``quiet``, and the crew at work; all of it in the log.

    Ctrl-C in there ends the process with 130 and a line: that stages are kept, and ``written``, what is written.
    """
    from audit.checkpoints import interval
    from audit.monitor import SilentMonitor, monitor_for
    from audit.remote_store import open_store
    from audit.run_log import default_path, kept_log, tell
    from audit.workers import workers

    interval()  # a bad one is told before anything is made
    store = open_store(store_address)
    store.claim()
    display = nullcontext(SilentMonitor()) if quiet else monitor_for(err_console)
    try:
        with kept_log(log or default_path(store.root), asked=log is not None):
            tell("begins", command=command_line(), store=store.address, processes=crew.jobs, threads=crew.threads)
            try:
                with display as monitor, workers(crew, store, device) as pool:
                    yield store, monitor, pool
            except BaseException as error:
                tell("ended", error=f"{type(error).__name__}: {error}")
                raise
            tell("done")
    except KeyboardInterrupt:
        err_console.print(
            f"\nInterrupted. Finished stages are kept in {store.address}: the same command goes on from there. "
            f"{written}",
            highlight=False,
        )
        raise SystemExit(130) from None
