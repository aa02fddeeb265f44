"""The table of a benchmark run, in the terminal, as a committed record and in docs/engine.md.

python -m benchmarks.table RESULTS.json            print it; RESULTS is pytest-benchmark's file, or a kept one
python -m benchmarks.table RESULTS.json --keep     make it the committed record and put its table into docs/engine.md
python -m benchmarks.table --check                 whether page and committed record agree
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

KEPT = Path(__file__).with_name("results.json")
PAGE = Path(__file__).parent.parent / "docs" / "engine.md"
MARKS = "<!-- benchmarks: benchmarks/results.json -->", "<!-- /benchmarks -->"
HEAD = (
    "implementation", "wall s", "CPU s", "/ ours, wall", "/ ours, CPU", "peak MB", "/ ours, peak",
    "of matrix-product peak", "logits differ by",
)  # fmt: skip

PACKAGES = ("torch", "spikingjelly", "snntorch")

Run = dict[str, Any]


def runs_of(results: dict[str, Any]) -> list[Run]:
    """Without what pytest-benchmark says about the machine: what matters is measured in the same run."""
    if "runs" in results:
        return list(results["runs"])
    return [{**run["extra_info"], "wall_seconds": run["stats"]["min"]} for run in results["benchmarks"]]


def made_with(results: dict[str, Any]) -> dict[str, Any]:
    """The commit, the processor and the versions behind a record."""
    if "made_with" in results:
        return dict(results["made_with"])
    commit, machine = results["commit_info"], results["machine_info"]
    return {
        "commit": commit["id"] + (" and changes" if commit["dirty"] else ""),
        "processor": machine["cpu"].get("brand_raw", machine["machine"]),
        "python": machine["python_version"],
        "packages": {name: version(name) for name in PACKAGES},
    }


def markdown(runs: list[Run]) -> str:
    lines: list[str] = []
    for case in dict.fromkeys(run["case"] for run in runs):
        group = [run for run in runs if run["case"] == case]
        ours = next(run for run in group if run["implementation"] == "ours")
        lines += [f"**{case}, batch 16, {ours['threads']} threads**", "", _line(HEAD)]
        lines += [_line(["---", *["---:"] * (len(HEAD) - 1)]), *map(_line, _rows(group, ours)), ""]
    return "\n".join(lines)


def _rows(group: list[Run], ours: Run) -> Iterator[Iterable[str]]:
    peak = max(run["matmul_flops"] for run in group)
    for run in group:
        yield (
            run["implementation"],
            f"{run['wall_seconds']:.2f}",
            f"{run['cpu_seconds']:.2f}",
            f"{run['wall_seconds'] / ours['wall_seconds']:.2f}",
            f"{run['cpu_seconds'] / ours['cpu_seconds']:.2f}",
            f"{run['peak_bytes'] / 1e6:.0f}",
            f"{run['peak_bytes'] / ours['peak_bytes']:.1f}",
            f"{run['operations'] / run['wall_seconds'] / peak:.2f}",
            "not compared" if len(group) == 1 else f"{run['deviation']:.1%}" if run["deviation"] else "nothing",
        )


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def with_table(readme: str, runs: list[Run]) -> str:
    """``readme`` with the table of ``runs`` between its marks."""
    before, _, rest = readme.partition(MARKS[0])
    _, found, after = rest.partition(MARKS[1])
    if not found:
        raise SystemExit(f"{PAGE.name}: the marks {MARKS[0]} ... {MARKS[1]} are missing")
    return f"{before}{MARKS[0]}\n\n{markdown(runs)}\n{MARKS[1]}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=KEPT)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    results = json.loads(options.results.read_text())
    runs = runs_of(results)
    if options.check:
        if with_table(PAGE.read_text(), runs) != PAGE.read_text():
            raise SystemExit(
                f"{PAGE.name}: its benchmark table is not that of {KEPT.name}: python -m benchmarks.table --keep"
            )
        return
    if options.keep:
        KEPT.write_text(json.dumps({"made_with": made_with(results), "runs": runs}, indent=1) + "\n")
        PAGE.write_text(with_table(PAGE.read_text(), runs))
    sys.stdout.write(markdown(runs))


if __name__ == "__main__":
    main()
