"""What a grid of audits takes on 1, 8 and 64 machines, from what its stages took on one; see docs/scaling.md.

python -m benchmarks.scaling                    the tables of docs/scaling.md, by simulation, put into it
python -m benchmarks.scaling --from STORE...    first keep what the stages of these stores took, by scale
python -m benchmarks.scaling --predict LOG      a run in several processes, as predicted and as its log has it

A run is three rounds, each after the one before: what is trained, what is protected, what is attacked. In a round, who
is free takes the next piece. A piece costs what its stages took, and `overhead` for giving it out; in the end one
process puts the record together.
"""

import argparse
import heapq
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median

KEPT = Path(__file__).with_name("stage-costs.json")
DOCUMENT = Path(__file__).parent.parent / "docs" / "scaling.md"
MARKS = "<!-- tables: benchmarks/stage-costs.json -->\n", "<!-- /tables -->\n"
WORKERS = (1, 8, 64)
# The grid of the question: as many as there are, where there are fewer.
DEFENSES, ATTACKS, DATASETS, SEEDS = 10, 12, 4, 5
# Seconds that a piece costs beside its stages, and that the record takes for every result of an attack.
OVERHEADS = {"processes": 0.05, "Ray": 0.5, "a new process per piece, as on GPUs": 15.0}
ASSEMBLY = 0.04
TRAINED = ("teacher", "evaluator", "second evaluator")
WITH_TARGET = ("evaluation", "gradients", "untrained")
WITH_ATTACK = ("observation", "contrast", "measurements")
# The scales that are shown, and how many times as fast their stages are taken to be.
CASES = (("digits vgg5 smoke cpu", 1.0), ("cifar10 vgg9 small cpu", 1.0), ("cifar10 vgg9 small cpu", 30.0))
Costs = Mapping[str, float]


@dataclass(frozen=True)
class Rounds:
    """Seconds of the pieces of each round, and how many results the record has."""

    pieces: tuple[Sequence[float], ...]
    results: int

    @property
    def work(self) -> float:
        return sum(sum(each) for each in self.pieces)


def grid(costs: Costs, faster: float, defenses: int, datasets: int, seeds: int) -> Rounds:
    """The pieces of the grid, where every stage is so many times as fast as where it was measured.

    Targets of one shape share their untrained twin: half of the defenses, as in this project's own tables, have a
    shape of their own.
    """
    targets = sorted(seconds for name, seconds in costs.items() if name.startswith("target "))
    attacks = sorted(seconds for name, seconds in costs.items() if name.startswith("attack "))
    chosen = [targets[len(targets) * i // defenses] for i in range(defenses)]
    beside = sum(costs.get(name, 0.0) for name in WITH_TARGET)
    looked = sum(costs.get(name, 0.0) for name in WITH_ATTACK)
    of_attacks = [attacks[len(attacks) * i // ATTACKS] + looked for i in range(ATTACKS)]
    trained = [costs["teacher"]] * seeds + [costs["evaluator"], costs["second evaluator"]]
    protected = [seconds + beside for seconds in chosen] * seeds
    attacked = [seconds for seconds in of_attacks for _ in range(seeds * (defenses + defenses // 2))]
    rounds = (trained, protected, attacked)
    return Rounds(tuple([s / faster for s in each] * datasets for each in rounds), len(attacked) * datasets)


def makespan(rounds: Rounds, workers: int, overhead: float) -> tuple[float, ...]:
    """Seconds of each round, and of putting the record together."""
    return *(_round(pieces, workers, overhead) for pieces in rounds.pieces), ASSEMBLY * rounds.results


def _round(pieces: Iterable[float], workers: int, overhead: float) -> float:
    free = [0.0] * workers
    for seconds in pieces:
        heapq.heappush(free, heapq.heappop(free) + seconds + overhead)
    return max(free)


def kept_costs(stores: Sequence[Path]) -> dict[str, Costs]:
    """The median by scale and stage of what stores have kept."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for store in stores:
        for line in (store / "costs.jsonl").read_text().splitlines():
            scale, stage, label, seconds = json.loads(line)
            what = label.partition(" on ")[0]
            name = f"{stage} {what}" if stage in ("target", "attack") else stage
            found[scale][name].append(seconds)
    return {s: {n: round(median(v), 3) for n, v in sorted(stages.items())} for s, stages in sorted(found.items())}


def predicted(log: Path) -> tuple[int, float, float]:
    """Of a run whose log is kept: how many processes, the seconds that it took, and those that its stages say.

    The processes are taken to have been given its stages in the order in which they came back.
    """
    events = [json.loads(line) for line in log.read_text().splitlines()]
    first, last = (datetime.fromisoformat(events[i]["time"]).timestamp() for i in (0, -1))
    made = [event for event in events if event["message"] == "stage" and not event["cached"]]
    rounds: tuple[list[float], list[float], list[float]] = ([], [], [])
    for event in made:
        kind = event["name"].partition(":")[0]
        rounds[0 if kind in TRAINED else 2 if kind in ("attack", *WITH_ATTACK) else 1].append(event["wall_seconds"])
    workers = events[0]["processes"]
    results = sum(event["name"].startswith("attack") for event in made)
    return workers, last - first, sum(makespan(Rounds(rounds, results), workers, OVERHEADS["processes"]))


def table(costs: Costs, faster: float, overhead: float, datasets: int) -> str:
    """Hours by workers: each round, the record, the whole; how many times as fast as one, and what share of that.

    One is one process that makes everything itself, and gives nothing out.
    """
    rounds = grid(costs, faster, DEFENSES, datasets, SEEDS)
    lines = ["| workers | trained | protected | attacked | record | hours | times as fast | efficiency |"]
    lines.append("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    alone = sum(makespan(rounds, 1, 0.0))
    for workers in WORKERS:
        parts = makespan(rounds, workers, overhead if workers > 1 else 0.0)
        hours = " | ".join(f"{seconds / 3600:.2f}" for seconds in (*parts, sum(parts)))
        gained = alone / sum(parts)
        lines.append(f"| {workers} | {hours} | {gained:.1f} | {100 * gained / workers:.0f} % |")
    return "\n".join(lines) + "\n"


def document() -> str:
    """What stands between the marks of docs/scaling.md."""
    kept: dict[str, Costs] = json.loads(KEPT.read_text())
    parts = []
    for scale, faster in CASES:
        for name, overhead in OVERHEADS.items():
            quick = "" if faster == 1 else f", every stage {faster:g} times as fast as measured"
            parts.append(f"**{scale}{quick}; {name}: {overhead:g} s per piece**\n\n")
            parts.append(f"{table(kept[scale], faster, overhead, DATASETS)}\n")
    return "".join(parts)


def between(text: str) -> tuple[str, str, str]:
    """The document before its tables, they, and what follows."""
    before, mark, rest = text.partition(MARKS[0])
    tables, end, after = rest.partition(MARKS[1])
    return before + mark, tables, end + after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="stores", nargs="+", type=Path)
    parser.add_argument("--predict", type=Path)
    options = parser.parse_args()
    if options.predict:
        workers, took, said = predicted(options.predict)
        sys.stdout.write(f"{workers} processes: {took:.0f} s; by its stages {said:.0f} s, {said / took:.2f} of that\n")
        return
    if options.stores:
        KEPT.write_text(json.dumps(kept_costs(options.stores), indent=1) + "\n")
    before, _, after = between(DOCUMENT.read_text())
    DOCUMENT.write_text(before + document() + after)
    sys.stdout.write(document())


if __name__ == "__main__":
    main()
