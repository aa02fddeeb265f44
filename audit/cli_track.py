"""What --track runs: the grid, and the table that its runs make together."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from audit.errors import AuditError

if TYPE_CHECKING:
    from audit.executors import Crew
    from audit.request import Request


def asked_by(name: str, defense: str, attack: str) -> tuple[str, str]:
    """The names of the defenses and of the attacks that a track means, where others were not asked for."""
    from audit.tracks import chosen, track_of

    track = track_of(name)
    components = dict.fromkeys(c.name for group in chosen(track, defense) for c in group)
    attacks = [track.suite if part.strip() == "all" else part for part in attack.split(",")]
    return defense or ",".join(components), ",".join(attacks)


def run_track(
    name: str,
    base: "Request",
    asked: str,
    overs: Sequence[str],
    out: Path | None,
    store: str | None,
    crew: "Crew",
    log: Path | None = None,
    quiet: bool = False,
) -> None:
    """Run what is not there yet, write the table beside the runs, print it."""
    from audit.cli import out_console
    from audit.cli_leaderboards import print_text
    from audit.cli_run import resumable
    from audit.tracks import carry_out, plan
    from leaderboards.paper import terminal
    from leaderboards.rendering import Format, render
    from leaderboards.robustness import summary, table
    from leaderboards.tracks import write_absent

    # The same command has to find what it made: no date in the name.
    folder = out or Path("runs") / f"{name}-{base.dataset}-{base.profile}"
    planned = plan(name, base, asked, overs, folder)
    written = f"Finished runs are in {folder}."
    with resumable(store, crew, base.device, written, log, quiet) as (kept, monitor, workers):
        records, absent = carry_out(planned, kept, monitor, workers)
    made = table(records, absent)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for format in get_args(Format):
            temporary = folder / f".{name}.{format}"
            temporary.write_text(render(made, format), encoding="utf-8")
            temporary.replace(folder / f"{name}.{format}")
        write_absent(folder, absent)
    except OSError as error:
        raise AuditError(f"cannot write the table to {folder}: {error.strerror or error}") from error
    if quiet:
        return
    print_text(terminal(summary(records, absent), out_console.width))
    for point in planned.points:
        if (point.folder / "record.json").exists():
            out_console.print(f"run      {point.folder / 'report.html'}", highlight=False)
    out_console.print(f"table    {folder / f'{name}.html'}", highlight=False)
