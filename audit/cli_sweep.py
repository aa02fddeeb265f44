"""The command that goes over the values of one setting: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer

from audit import cli_run as options
from audit.cli_run import NAMES, chosen_crew, chosen_seeds, command_line, passed_settings, resumable

# The paper's figures: the conversion, and the encryption training without and with distillation.
DEFENSES = "data-free-conversion,dc-cet,privatesnn"


def sweep(
    over: Annotated[str, typer.Option(help="setting=value,value: time_steps=16,32,64, synthetic_samples=20,80,320.")],
    defense: Annotated[str, typer.Option(help=NAMES)] = DEFENSES,
    attack: options.Attack = "none",
    dataset: options.Dataset = None,
    model: options.Model = None,
    profile: options.Profile = "smoke",
    seed: options.Seed = None,
    seeds: options.Seeds = None,
    data_root: options.DataRoot = None,
    image_size: options.ImageSize = None,
    out: Annotated[Path | None, typer.Option(help="The sweep's folder. Default: runs/sweep-SETTING-DATASET.")] = None,
    device: options.Device = "auto",
    set_: options.Set = None,
    jobs: options.Jobs = None,
    threads: options.Threads = None,
    executor: options.Executor = "local",
    address: options.Address = None,
    ray: options.Ray = None,
    store: options.StoreRoot = None,
) -> None:
    """Audit once for every value of one setting, and draw accuracy against it: the paper's Figures 5a and 5b.

    python -m audit sweep --over time_steps=16,32,64
    """
    from audit.cli import out_console, print_table
    from audit.request import resolve
    from audit.sweep import carry_out, plan
    from audit.sweep_figure import tables_of, write_figure

    passed, chosen = passed_settings(set_, image_size), chosen_seeds(seed, seeds)
    base = resolve(defense, attack, dataset, model, profile, chosen, data_root, device, passed, command_line())
    # The same command has to find what it made: no date in the name.
    field = over.partition("=")[0]
    folder = out or Path("runs") / f"sweep-{field}-{base.dataset}"
    planned = plan(over, base, folder)
    crew = chosen_crew(jobs, threads, executor, address, ray, base.device)
    with resumable(store, crew, base.device, f"Finished points are in {folder}.") as made:
        kept, monitor, workers = made
        records = carry_out(planned, kept, monitor, workers)
        tables = tables_of(planned, records)
        plot = write_figure(planned, records, tables)
    print_table(next(iter(tables.values())))
    for point in planned.points:
        out_console.print(f"run      {point.folder / 'report.html'}", highlight=False)
    out_console.print(f"tables   {folder / f'{plot.stem}.csv'}\nfigure   {plot}", highlight=False)
