"""The command that shows and prunes the store: parse, call, print."""

import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from audit import cli_run as options
from audit.errors import AuditError

if TYPE_CHECKING:
    from audit.store import Kept

DAY = 24 * 60 * 60
UNITS = ("B", "kB", "MB", "GB", "TB")


def cache(
    prune: Annotated[bool, typer.Option("--prune", help="Remove what was not used for --unused days.")] = False,
    unused: Annotated[float, typer.Option(help="Days since a stage was last made or read.")] = 30.0,
    add: Annotated[Path | None, typer.Option(help="Take over the stages of another store.")] = None,
    store: options.StoreRoot = None,
) -> None:
    """What the store of finished stages holds, by kind; --prune removes what nobody used for a while; --add takes over
    what another store has finished."""
    from audit.cli import out_console
    from audit.remote_store import open_store

    if not 0 <= unused < float("inf"):
        raise AuditError(f"--unused {unused:g}: a number of days, 0 or more")
    if prune and add is not None:
        raise AuditError("pass --add or --prune, not both")
    kept = open_store(store)
    if add is not None:
        taken, known = kept.take_over(add)
        there = f", {known} there already" if known else ""
        out_console.print(
            f"added {_said(taken)} to {kept.address}{there}", highlight=False, markup=False, soft_wrap=True
        )
        return
    before = time.time() - unused * DAY
    if prune:
        removed = kept.prune(before)
        out_console.print(
            f"removed {_said(removed)} from {kept.address}", highlight=False, markup=False, soft_wrap=True
        )
        return
    found = kept.kept()
    by_stage: dict[str, list[Kept]] = defaultdict(list)
    for one in found:
        by_stage[one.stage].append(one)
    table = Table("stage", box=box.SIMPLE_HEAD)
    for name in ("stages", "size", f"unused for {unused:g} days"):
        table.add_column(name, justify="right")
    for stage, several in sorted(by_stage.items()):
        idle = [one for one in several if one.used < before]
        table.add_row(stage, f"{len(several)}", _size(several), _size(idle) if idle else "none")
    if found:
        out_console.print(table)
    out_console.print(f"{_said(found)} in {kept.address}", highlight=False, markup=False, soft_wrap=True)


def _said(kept: "list[Kept]") -> str:
    return f"{len(kept)} stage{'' if len(kept) == 1 else 's'}, {_size(kept)},"


def _size(kept: "list[Kept]") -> str:
    size, unit = float(sum(one.size for one in kept)), 0
    while size >= 1000 and unit + 1 < len(UNITS):
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {UNITS[unit]}" if unit == 0 else f"{size:.1f} {UNITS[unit]}"
