"""The commands: parse, call, print."""

import json
import logging
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, cast

import typer
from rich import box
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.table import Table as RichTable

from audit import cli_run as options
from audit.cli_cache import cache
from audit.cli_leaderboards import site, submit, tables, verify
from audit.cli_run import NAMES, chosen_crew, chosen_seeds, command_line, err_console, passed_settings, resumable
from audit.cli_sweep import sweep
from audit.errors import AuditError
from leaderboards.tables import Table, build, plain, readable

if TYPE_CHECKING:
    from audit.executors import Crew
    from audit.records import Record

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
# A table with more columns than this, and than rows, is turned on its side: a terminal has 80 characters.
WIDEST = 5
FIRST_COLUMN = 20
# With less room a column breaks names and numbers.
NARROWEST = 13
MOST_LISTED = 12

out_console = Console()
# Some versions of typer carry their own copy of click, others use click itself: this is the right one's either way.
UsageError = cast(type[Exception], typer.BadParameter.__base__)


@app.callback(invoke_without_command=True)
def audit(
    context: typer.Context,
    defense: Annotated[str, typer.Option(help=NAMES)] = "",
    attack: options.Attack = "all",
    dataset: options.Dataset = None,
    model: options.Model = None,
    profile: options.Profile = "smoke",
    seed: options.Seed = None,
    seeds: options.Seeds = None,
    data_root: options.DataRoot = None,
    image_size: options.ImageSize = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder. Default: a new one under runs/.")] = None,
    device: options.Device = "auto",
    set_: options.Set = None,
    jobs: options.Jobs = None,
    threads: options.Threads = None,
    executor: options.Executor = "local",
    address: options.Address = None,
    ray: options.Ray = None,
    store: options.StoreRoot = None,
    track: Annotated[str, typer.Option(help="A grid of runs and one table of them: robustness.")] = "",
    over: Annotated[
        list[str] | None, typer.Option(help="With --track: setting=value,value as one more axis; several times.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be made, and make nothing.")] = False,
    log: options.Log = None,
    tensorboard: options.TensorBoard = None,
    quiet: options.Quiet = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: the tables, and where things are.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Audit a spiking network: how accurate it is, what it costs, and what of its training classes it gives away.

    python -m audit --defense privatesnn --attack all
    """
    if context.invoked_subcommand is not None:
        return
    if version:
        from audit import __version__

        out_console.print(f"snn-privacy-audit {__version__}", highlight=False)
        return
    options.draw_curves(tensorboard)
    if over and not track:
        raise AuditError("--over is an axis of a track: --track robustness, or the command sweep")
    if not defense and not track:
        raise AuditError("name a defense: --defense privatesnn, or --defense all (python -m audit list)")
    from audit.cli_track import asked_by, run_track
    from audit.request import resolve

    passed, chosen = passed_settings(set_, image_size), chosen_seeds(seed, seeds)
    asked = asked_by(track, defense, attack) if track else (defense, attack)
    request = resolve(*asked, dataset, model, profile, chosen, data_root, device, passed, command=command_line())
    crew = chosen_crew(jobs, threads, executor, address, ray, request.device)
    if dry_run:
        if track:
            raise AuditError("--dry-run is of one run; a track is many")
        if as_json:
            raise AuditError("--dry-run prints a table; --json is of what was run")
        _show_plan(request, store, crew.jobs or 1)
    elif track:
        if as_json:
            raise AuditError("--json is of one run; a track writes its table in several formats beside its runs")
        run_track(track, request, defense, over or (), out, store, crew, log, quiet)
    else:
        _execute(request, out, store, crew, log, quiet, as_json)


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    with_settings: Annotated[bool, typer.Option("--settings", help="What --set can change, with defaults.")] = False,
) -> None:
    """Every registered defense, attack, dataset, network, suite and profile, one line each."""
    from audit.data import DATASETS
    from audit.networks.vgg import NETWORKS
    from audit.registry import ATTACKS, DEFENSES
    from audit.settings import all_settings
    from audit.suites import PROFILES, SUITES, TRACKS

    listing = {
        "defenses": {name: DEFENSES.get(name).summary for name in DEFENSES.names()},
        "attacks": {name: ATTACKS.get(name).summary for name in ATTACKS.names()},
        "datasets": dict(DATASETS),
        "networks": dict(NETWORKS),
        "suites": {name: f"{suite.summary}: {suite.names}" for name, suite in SUITES.items()},
        "tracks": {name: track.summary for name, track in TRACKS.items()},
        "profiles": {name: profile.summary for name, profile in PROFILES.items()},
    }
    if with_settings:
        listing = {"settings": all_settings()}
    if as_json:
        _print_json(listing)
        return
    for kind, entries in listing.items():
        table = RichTable(title=kind, title_justify="left", show_header=False, box=None, title_style="bold")
        for name, summary in entries.items():
            table.add_row(f"[cyan]{escape(name)}[/]", escape(summary))
        out_console.print(table)


for _command in (sweep, submit, verify, tables, site, cache):
    app.command()(_command)


def _show_plan(request, store_address: str | None, jobs: int) -> None:
    """The pieces of the run by kind, what is in the store, and what the rest takes."""
    from audit.dry_run import look
    from audit.remote_store import open_store

    store = open_store(store_address)
    lines = look(request, store)
    table = RichTable("made apart", box=box.SIMPLE_HEAD)
    for name in ("in the store", "to make", "about, in one process"):
        table.add_column(name, justify="right")
    for line in lines:
        table.add_row(line.name, str(line.stored), str(line.missing), _duration(line.seconds) if line.missing else "")
    out_console.print(table)
    missing = sum(line.missing for line in lines)
    known = [line.seconds for line in lines if line.seconds is not None]
    guess = f"about {_duration(sum(known) / jobs)} in {jobs} process{'es' * (jobs > 1)}"
    unknown = "" if len(known) == len(lines) else ", and what was never made here at this scale"
    rest = f"{missing} to make: {guess}{unknown}" if missing else "nothing to make"
    out_console.print(
        f"{sum(line.stored for line in lines)} in {store.address}; {rest}", highlight=False, soft_wrap=True
    )


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _execute(
    request, out: Path | None, store: str | None, crew: "Crew", log: Path | None, quiet: bool, as_json: bool
) -> None:
    """Run, write the run's folder in one move, print the tables; as JSON, nothing else goes to standard output."""
    from audit.output import claim, write_run
    from audit.reporting.headline import headline
    from audit.run import run

    folder = out or Path("runs") / f"{request.dataset}-{datetime.now():%Y%m%d-%H%M%S}"
    claim(folder)
    written = f"Nothing was written to {folder}."
    with resumable(store, crew, request.device, written, log, quiet) as (kept, monitor, workers):
        (made,) = workers.spread([request], monitor) if workers else [[]]
        finished = run(request, kept, monitor, made)
        write_run(finished, folder)
    if as_json:
        _print_json(_summary(finished.record, folder))
    if as_json or quiet:
        return
    for name in readable(finished.record):
        print_table(build(finished.record, name))
    out_console.print(headline(finished.record), style="bold", highlight=False, markup=False)
    out_console.print(f"report   {folder / 'report.html'}\nrecord   {folder / 'record.json'}", highlight=False)


def _print_json(value: object) -> None:
    """As it is: a console colours it where it is told to, and then it is no JSON."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def _summary(record: "Record", folder: Path) -> dict[str, Any]:
    """What a program wants to know of a run: its tables, cell by cell as they are read, and where the rest is."""
    from audit.reporting.headline import headline

    tables = {name: plain(build(record, name)) for name in readable(record)}
    cells = {
        name: [dict(zip((text.replace("\n", ", ") for text in header), row, strict=True)) for row in rows]
        for name, (header, rows) in tables.items()
    }
    return {
        "headline": headline(record),
        "folder": str(folder),
        "record": str(folder / "record.json"),
        "report": str(folder / "report.html"),
        "stages": {"made": sum(not s.cached for s in record.stages), "cached": sum(s.cached for s in record.stages)},
        "tables": cells,
    }


def print_table(table: Table) -> None:
    """As it fits: a table with many columns is turned on its side; where that is too wide as well, a list of rows, or
    of many rows the columns that fit."""
    header, rows = plain(table)
    wide = len(header) > max(WIDEST, len(rows))
    room = (out_console.width - FIRST_COLUMN) // max(1, len(rows) if wide else len(header) - 1)
    if room >= NARROWEST:
        out_console.print(_turned(table, header, rows) if wide else _upright(table, header, rows))
    elif len(rows) <= MOST_LISTED:
        _print_list(table, header, rows)
    else:
        out_console.print(_upright(*_narrowed(table, header, rows)))
        out_console.print("  further columns: report and tables", style="dim", highlight=False)
    for note in table.footnotes:
        if note.mark:
            out_console.print(f"  {note.mark}  {note.text}", style="dim", highlight=False, markup=False)


def _grid(table: Table, **options: Any) -> RichTable:
    return RichTable(title=escape(table.title), title_justify="left", title_style="bold", **options)


def _upright(table: Table, header: list[str], rows: list[list[str]]) -> RichTable:
    shown = _grid(table, box=box.SIMPLE_HEAD)
    for column, text in zip(table.columns, header, strict=True):
        side: Literal["left", "right"] = "right" if column.numeric else "left"
        shown.add_column(escape(text), justify=side, overflow="fold", no_wrap=column is table.columns[0])
    for row in rows:
        shown.add_row(*map(escape, row))
    return shown


def _turned(table: Table, header: list[str], rows: list[list[str]]) -> RichTable:
    shown = _grid(table, box=box.SIMPLE_HEAD)
    shown.add_column(escape(header[0]), overflow="fold", min_width=FIRST_COLUMN)
    for row in rows:
        shown.add_column(escape(row[0]), justify="right", overflow="fold")
    for index, text in enumerate(header[1:], start=1):
        shown.add_row(escape(text.replace("\n", ", ")), *(escape(row[index]) for row in rows))
    return shown


def _narrowed(table: Table, header: list[str], rows: list[list[str]]) -> tuple[Table, list[str], list[list[str]]]:
    """The two columns in front, and as many of the measured ones as there is room for."""
    measured = [i for i, column in enumerate(table.columns) if column.kind == "measured" and i > 1]
    kept = [0, 1, *measured[: max(1, (out_console.width - 3 * FIRST_COLUMN) // NARROWEST)]]
    columns = tuple(table.columns[i] for i in kept)
    return replace(table, columns=columns), [header[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _print_list(table: Table, header: list[str], rows: list[list[str]]) -> None:
    """Row by row, a line per column; the columns in front that hold no measurement are its name."""
    names = max(1, next((i for i, column in enumerate(table.columns) if column.numeric), 1))
    out_console.print(table.title, style="bold", highlight=False, markup=False)
    for row in rows:
        shown = RichTable(
            title=escape(", ".join(row[:names])), title_justify="left", show_header=False, box=None, padding=(0, 1)
        )
        shown.add_column(overflow="fold", min_width=FIRST_COLUMN)
        shown.add_column(overflow="fold")
        for text, cell in zip(header[names:], row[names:], strict=True):
            shown.add_row(escape(text.replace("\n", ", ")), escape(cell))
        out_console.print(shown)


def _fail(message: str) -> NoReturn:
    line = " ".join(message.split())
    err_console.print(f"error: {line}", style="red", highlight=False, markup=False, soft_wrap=True)
    raise SystemExit(2) from None


def main() -> None:
    """Run a command; bad input is one line and exit code 2, Ctrl-C is exit code 130."""
    handler = RichHandler(logging.WARNING, console=err_console, show_time=False, show_path=False, markup=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    try:
        code = app(standalone_mode=False)
    except AuditError as error:
        _fail(str(error))
    except UsageError as error:
        _fail(f"{cast(Any, error).format_message()} (python -m audit --help)")
    except typer.Abort:
        raise SystemExit(130) from None
    raise SystemExit(code or 0)
