"""The commands around a leaderboard: submit, verify, tables, site."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from audit.errors import AuditError
from leaderboards.entries import ROOT

Format = Literal["terminal", "csv", "md", "tex", "html"]
Level = Literal["none", "attacks", "all"]
Records = Annotated[Path, typer.Option(help="Where the rows lie.", show_default="those that come along")]

out_console = Console()


def submit(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    author: Annotated[list[str], typer.Option(help="Repeat it for several.")],
    licence: Annotated[str, typer.Option(help="Of weights and record, as SPDX names it: CC-BY-4.0.")],
    name: Annotated[str, typer.Option(help="As the board shows it. Default: the defense's.")] = "",
    defense: Annotated[str | None, typer.Option(help="Which, where the run audited several.")] = None,
    paper: Annotated[str | None, typer.Option(help="A link.")] = None,
    code: Annotated[str | None, typer.Option(help="A link.")] = None,
    archive: Annotated[str | None, typer.Option(help="A link: where this archive will stay.")] = None,
    code_file: Annotated[
        Path | None,
        typer.Option(help="The file with the defense, or the external attack, for a re-run by those who trust it."),
    ] = None,
    external: Annotated[
        str | None, typer.Option(help="The hash of the row that this stronger attack is about.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The archive. Default: NAME.zip.")] = None,
) -> None:
    """Make an archive of a run: record, raw scores, targets, manifest. It is checked as `verify` does."""
    from pydantic import ValidationError

    from audit.records import Record, Submission
    from leaderboards.entries import audited
    from leaderboards.submission import submit as pack
    from leaderboards.verification import verify as check

    asked = defense or audited(Record.read(run / "record.json"))
    try:
        links = {"paper": paper, "code": code, "archive": archive}
        who = Submission.model_validate({"name": name or asked, "authors": author, "licence": licence, **links})
    except ValidationError as error:
        first = error.errors()[0]
        raise AuditError(f"--{first['loc'][0]}: {first['msg'][0].lower()}{first['msg'][1:]}") from error
    made = out or Path(f"{asked}.zip")
    pack(run, who, made, asked, code_file, external)
    verdict = check(made)
    print_text(verdict.text())
    if not verdict.accepted:
        made.unlink()
        raise AuditError(f"{made} was not kept: it would be refused")
    print_text(f"archive  {made}")
    if code_file is None and not _known_here(asked):
        print_text(f"note     without --code-file nobody can run '{asked}' again from the beginning")


def _known_here(defense: str) -> bool:
    from audit.registry import DEFENSES

    return defense in DEFENSES.names()


def verify(
    archive: Annotated[Path, typer.Argument(help="What `submit` made, or the .json of a committed row.")],
    rerun: Annotated[Level, typer.Option(help="Run again and compare: nothing, the attacks, or everything.")] = "none",
    data_root: Annotated[Path | None, typer.Option(help="Where the data is. Default: AUDIT_DATA.")] = None,
    store: Annotated[
        Path | None, typer.Option(help="Stages of a re-run, for --rerun attacks. Default: none but its own.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:0.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads. Default: torch's.")] = None,
    trust_code: Annotated[bool, typer.Option("--trust-code", help="Run the code that it brings along.")] = False,
    accept: Annotated[Path | None, typer.Option(help="Where it is accepted, add its row under this folder.")] = None,
) -> None:
    """Check a submission: exit code 0 and 'accepted', or 1 and what is wrong with it."""
    from leaderboards.acceptance import accept as add
    from leaderboards.acceptance import kept
    from leaderboards.entries import weights_beside
    from leaderboards.rerun import Machine, rerun_all, rerun_attacks
    from leaderboards.verification import verify as check
    from leaderboards.verification import verify_row

    if store is not None and trust_code:
        raise AuditError("--store and --trust-code do not go together: code that is run could write in the store")
    if archive.suffix == ".json" and accept is not None:
        raise AuditError("--accept makes a row of an archive; this is the .json of a row already")
    if archive.suffix == ".json" and rerun == "attacks" and not weights_beside(archive):
        raise AuditError(f"the weights are not beside {archive}; give its archive, or --rerun all")
    machine = Machine(data_root, store, threads, device)
    reruns = {"none": None, "attacks": rerun_attacks(machine, trust_code), "all": rerun_all(machine, trust_code)}
    checked = verify_row if archive.suffix == ".json" else check
    verdict = checked(archive, rerun, data_root, reruns[rerun])
    print_text(verdict.text())
    if not verdict.accepted:
        raise SystemExit(1)
    if accept is not None:
        before = kept(verdict, accept)
        print_text(f"row      {add(verdict, accept).path}")
        if before is not None:
            print_text(before)


def tables(
    run: Annotated[
        list[Path] | None,
        typer.Argument(help="A run's folder, a record's .json, or a folder of committed rows; several for a sweep."),
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            help="Of the PrivateSNN paper: paper-table-1 to -5, figure-5a, figure-5b, figure-6, or all; of the "
            "quantisation paper: quantization-1 to -5, or quantization."
        ),
    ] = "",
    leaderboard: Annotated[str, typer.Option(help="Instead of a run: a data set, or SUITE/DATASET.")] = "",
    output: Annotated[Format, typer.Option("--format", help="terminal, csv, md, tex or html.")] = "terminal",
    leakage_threshold: Annotated[
        float, typer.Option(help="Below it, class leakage counts as addressed: 0 untrained, 1 real images.")
    ] = 0.1,
    records: Records = ROOT,
) -> None:
    """Tables of runs, in the layouts of the PrivateSNN paper beside what it published; or the boards of a data set."""
    if bool(run) == bool(leaderboard):
        both = "RUN and --leaderboard do not go together" if run else "there is nothing to tabulate"
        raise AuditError(f"{both}: name a run (python -m audit tables RUN), or a board (--leaderboard digits)")
    if leaderboard:
        if layout:
            raise AuditError("--layout is of runs: name a run in place of --leaderboard")
        _boards(leaderboard, output, records)
    elif layout:
        _paper(run or [], layout, output, leakage_threshold)
    else:
        _own_tables(run or [], output)


def _paper(paths: list[Path], layout: str, output: Format, threshold: float) -> None:
    from leaderboards.paper import Options, build, read, terminal, text
    from leaderboards.quantization import build as build_quantization
    from leaderboards.tracks import each_run

    if layout.startswith("quantization"):
        made = build_quantization(layout, [run.record for path in each_run(paths) for run in read(path)])
    else:
        runs = [run for path in paths for run in read(path)]
        made = build(layout, [run.record for run in runs], Options(threshold, [run.pictures for run in runs]))
    for table in made:
        print_text(terminal(table, out_console.width) if output == "terminal" else text(table, output))


def _own_tables(paths: list[Path], output: Format) -> None:
    """As in the report of each run; of a track, the table that its runs make together: for a terminal the short one."""
    from audit.cli import print_table
    from leaderboards.paper import read, terminal
    from leaderboards.robustness import summary
    from leaderboards.robustness import table as robustness
    from leaderboards.tables import Table, build, readable, render
    from leaderboards.tracks import read_track

    made: list[Table] = []
    for path in paths:
        if (track := read_track(path)) is not None:
            if output == "terminal":
                print_text(terminal(summary(track.records, track.absent), out_console.width))
            else:
                made.append(robustness(track.records, track.absent))
            continue
        made += [build(run.record, name) for run in read(path) for name in readable(run.record)]
    for table in made:
        if output == "terminal":
            print_table(table)
        else:
            print_text(render(table, output))


def _boards(leaderboard: str, output: Format, records: Path) -> None:
    from audit.cli import print_table
    from leaderboards.board import boards, table
    from leaderboards.entries import load
    from leaderboards.rendering import render

    found = boards(load(records))
    chosen = [b for b in found if leaderboard in (b.dataset, f"{b.suite}/{b.dataset}")]
    if not chosen:
        known = ", ".join(f"{b.suite}/{b.dataset}" for b in found) or "none"
        raise AuditError(f"there is no leaderboard of '{leaderboard}' in {records}; there are: {known}")
    for board in chosen:
        if output == "terminal":
            print_table(table(board))
        else:
            print_text(render(table(board), output))


def site(
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    records: Records = ROOT,
    submitting: Annotated[Path | None, typer.Option(help="A page on how to submit, in Markdown.")] = None,
) -> None:
    """The boards as a static site, for a browser without a network."""
    from leaderboards.entries import load
    from leaderboards.site.build import write_site

    try:
        text = submitting.read_text(encoding="utf-8") if submitting is not None else None
    except (OSError, ValueError) as error:
        raise AuditError(f"--submitting {submitting} cannot be read: {error}") from error
    pages = write_site(load(records), out, text)
    print_text(f"{len(pages)} files, first {out / 'index.html'}")


def print_text(text: str) -> None:
    """As it is: what comes from a submission is no markup."""
    out_console.print(text, highlight=False, markup=False, soft_wrap=True)
