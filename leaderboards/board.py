"""One board per suite and data set: a row per submitted record, ranked by the attack that leaks most."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from audit.flags import FLAGS
from audit.records import OWN, DefenseResult
from audit.worst_case import worst_case
from leaderboards.cells import Cell, Column, Footnotes, Number, Table, Words, over_seeds
from leaderboards.checking import checked, rerun_of
from leaderboards.entries import UNDEFENDED, Entry, changed_options, suite_of
from leaderboards.externals import concerns, why_not, with_externals
from leaderboards.leakage import MASKED, SCALE, flags_of, lost_attacks, rank_groups, scale_of, worst_of
from leaderboards.lookups import ACCESS

ENERGY = "energy ratio ANN/SNN, total over T, 45nm-float32"
UNRANKED = "unranked"
# Fewer have intervals as wide as the scale, and whoever may choose them can choose the best.
LEAST_SEEDS = 3
FEW = 2
HEADLINES = (
    Column("rank"),
    Column("defense"),
    Column("submitted by"),
    Column("network, profile"),
    Column("seeds", "count"),
    Column("T", "count", "time-steps"),
    Column("access to private data"),
    Column("test accuracy", "measured", "fraction", "higher is better"),
    Column("energy, ANN/SNN", "measured", "ratio", "higher is better"),
    Column("leakage, worst attack", "measured", "fraction", "higher means more leakage"),
    Column("worst attack"),
    Column("before external results", "measured", "fraction", "higher means more leakage"),
    Column("flags"),
    Column("checked"),
)

REMARKS = (
    SCALE,
    "The worst attack is chosen, for every seed, on the other seeds. Rank: one more than the number of rows of one "
    "network, profile and data split whose interval lies wholly below; rows of a rank are not separated. A rank needs "
    f"the seeds 0, 1, 2 and so on, {LEAST_SEEDS} or more, an interval narrower than half the scale, and no changed "
    "option beside the defense's own. A row that nobody ran again takes no rank from one that somebody did.",
    "Intervals are over seeds: of the teacher, the defense and its attacks. All seeds share one data split and one "
    "evaluator; what another split or evaluator would change is not in them.",
    "Access to private data: what the defense was handed besides the teacher, which learned from all of it.",
    "Checked: 'claimed' is a record whose numbers follow from its raw scores; 'attacks' and 'all' were run again by "
    "somebody else than its submitter.",
)


@dataclass(frozen=True)
class Row:
    """A defense's row. ``claimed``: its leakage by its own record; ``leakage``: with external results in force."""

    entry: Entry
    name: str
    rank: str
    accuracy: Number
    energy: Number
    leakage: Number
    worst: str
    claimed: Number
    scale: str
    flags: tuple[str, ...]
    checked: str
    externals: tuple[Entry, ...]
    pending: tuple[tuple[Entry, str], ...]
    """External results that are not in force, and why."""
    results: tuple[DefenseResult, ...]
    """The target under each seed, external attacks among its own."""

    @property
    def authors(self) -> str:
        submission = self.entry.record.submission
        return ", ".join(submission.authors) if submission else OWN

    @property
    def comparable(self) -> str:
        """Rows are compared with those of the same network, profile and other options than the defense's only."""
        record = self.entry.record
        changed = changed_options(record)
        more = ["another architecture"] if _other_layers(self.entry) else []
        more += [", ".join(changed) if len(changed) <= FEW else f"{len(changed)} options changed"] if changed else []
        return ", ".join([record.results[0].teacher.architecture, record.profile, *more])

    @property
    def group(self) -> tuple[str, ...]:
        """What rows have in common that are ranked, and drawn, together."""
        record = self.entry.record
        return (self.comparable, record.dataset.split_hash, *changed_options(record), *_other_layers(self.entry))

    @property
    def trusted(self) -> bool:
        """Whether it is the maintainers' own, or somebody ran it again."""
        return self.entry.record.submission is None or rerun_of(self.entry) in ("attacks", "all")

    @property
    def seeds(self) -> str:
        return ", ".join(str(result.seed) for result in self.entry.record.results)

    @property
    def time_steps(self) -> str:
        steps = {d.time_steps for d in self.entry.results() if d.time_steps is not None}
        return ", ".join(map(str, sorted(steps))) if steps else "not spiking"

    @property
    def access(self) -> str:
        """'claimed', where a stranger's code says so and nobody ran it."""
        access = ACCESS[self.entry.results()[0].data_access]
        known = self.entry.record.submission is None or rerun_of(self.entry) == "all" or access == ACCESS["unknown"]
        return access if known else f"{access}, claimed"


@dataclass(frozen=True)
class Board:
    suite: str
    dataset: str
    rows: tuple[Row, ...]
    remarks: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"{self.suite} on {self.dataset}"


def boards(entries: Sequence[Entry]) -> list[Board]:
    """Every board that the entries fill, by suite and data set."""
    externals = [entry for entry in entries if entry.record.external is not None]
    found: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        if entry.record.external is None:
            found.setdefault((suite_of(entry.record), entry.record.dataset.name), []).append(entry)
    return [_board(suite, dataset, found[suite, dataset], externals) for suite, dataset in sorted(found)]


def _board(suite: str, dataset: str, entries: Sequence[Entry], externals: Sequence[Entry]) -> Board:
    rows = [_row(entry, externals) for entry in entries]
    ranks: dict[str, str] = {}
    for group in dict.fromkeys(row.group for row in rows):
        fit = [row for row in rows if row.group == group and _rankable(row)]
        ranks |= rank_groups({row.entry.hash: row.leakage for row in fit})
        ranks |= rank_groups({row.entry.hash: row.leakage for row in fit if row.trusted})
    rows = [replace(row, rank=ranks.get(row.entry.hash, UNRANKED)) for row in rows]
    rows.sort(key=lambda row: (row.comparable, row.rank == UNRANKED, row.rank.zfill(4), _most(row), row.name))
    return Board(suite, dataset, tuple(rows), REMARKS + _flag_lines(rows))


def _flag_lines(rows: Sequence[Row]) -> tuple[str, ...]:
    flags = dict.fromkeys(flag for row in rows for flag in row.flags)
    return tuple(f"{flag}: {FLAGS[flag]}." for flag in flags if flag in FLAGS)


def _most(row: Row) -> float:
    """The upper end of its leakage."""
    return row.leakage.high if row.leakage.high is not None else 2.0


def _other_layers(entry: Entry) -> tuple[str, ...]:
    """Operations by layer, where they are not those of the undefended network, which are the teacher's."""
    pair = {d.defense: d for d in entry.record.results[0].defenses}
    energies = [d.energy for d in (pair.get(entry.defense), pair.get(UNDEFENDED)) if d is not None]
    own, *teacher = [
        tuple(str(x.ann_multiply_accumulates) for x in e.layers) if e is not None else () for e in energies
    ]
    return own if teacher and own and own != teacher[0] else ()


def _rankable(row: Row) -> bool:
    record = row.entry.record
    seeds = {result.seed for result in record.results}
    chosen = len(seeds) < LEAST_SEEDS or seeds != set(range(len(seeds)))
    apart = chosen or changed_options(record) or _other_layers(row.entry)
    return not apart and MASKED not in row.flags and not worst_case(row.results).at_least


def _row(entry: Entry, externals: Sequence[Entry]) -> Row:
    results = entry.results()
    seeds = [result.seed for result in entry.record.results]
    about = sorted((e for e in externals if concerns(e, entry)), key=lambda e: e.hash)
    reasons = {e.hash: why_not(e, entry) for e in about}
    valid = tuple(e for e in about if reasons[e.hash] is None)
    merged = with_externals(entry, valid)
    submission = entry.record.submission
    claimed, worst = worst_of(results, seeds, Footnotes())
    leakage, stronger = worst_of(merged, seeds, Footnotes())
    if claimed.value is not None and (leakage.value is None or leakage.value < claimed.value):
        # Nobody's attack makes another one weaker; among more of them the choice on other seeds can come out lower.
        merged, leakage, stronger = results, claimed, worst
    return Row(
        entry,
        submission.name if submission else entry.defense,
        UNRANKED,
        over_seeds([Number.of(result.accuracy) for result in results], seeds),
        over_seeds([_energy(result) for result in results], seeds),
        leakage,
        stronger.text,
        claimed,
        scale_of(merged),
        tuple(flags_of(results)),
        checked(entry),
        valid,
        tuple((e, why) for e in about if (why := reasons[e.hash]) is not None),
        tuple(merged),
    )


def _energy(result: DefenseResult) -> Number:
    if result.energy is None:
        return Number.absent("ratio", "not-applicable", "the target is an ANN, its energy is the teacher's")
    found = next((m for m in result.energy.measurements if m.name == ENERGY), None)
    return Number.of(found) if found else Number.absent("ratio", "undefined", "not measured")


def table(board: Board) -> Table:
    """The board as the other tables are: for a terminal, csv, md, tex and html."""
    rows: list[tuple[Cell, ...]] = []
    notes = Footnotes()
    for row in board.rows:
        before = row.claimed if row.externals else Words("none")
        rows.append(
            (
                Words(row.rank),
                Words(row.name),
                Words(row.authors),
                Words(row.comparable),
                Words(row.seeds),
                Words(row.time_steps),
                Words(row.access),
                row.accuracy,
                row.energy,
                row.leakage,
                lost_attacks(worst_case(row.results), row.worst, notes),
                before,
                Words(", ".join(row.flags) or "none"),
                Words(row.checked),
            )
        )
    columns, cells = notes.collect(HEADLINES, rows)
    return Table("leaderboard", f"Leaderboard: {board.title}", columns, cells, notes.all(*board.remarks))
