"""A layout's name to its tables."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from audit.errors import AuditError
from audit.records import Record
from leaderboards.cells import Table
from leaderboards.paper.accuracy_tables import table_2, table_5
from leaderboards.paper.attack_tables import figure_6, table_4
from leaderboards.paper.figures import figure_5a, figure_5b
from leaderboards.paper.measured import Options
from leaderboards.paper.published import Published, published
from leaderboards.paper.tick_tables import table_1, table_3

Layout = Callable[[Sequence[Record], Published, Options], list[Table]]

LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "paper-table-1": table_1,
        "paper-table-2": table_2,
        "paper-table-3": table_3,
        "paper-table-4": table_4,
        "paper-table-5": table_5,
        "figure-5a": figure_5a,
        "figure-5b": figure_5b,
        "figure-6": figure_6,
    }
)
ALL = "all"


def build(layout: str, records: Sequence[Record], options: Options | None = None) -> list[Table]:
    """The tables of ``layout``, or of every one for 'all', out of one or several runs.

    Raises AuditError for an unknown layout, a threshold outside (0, 1), and a record without results.
    """
    if layout != ALL and layout not in LAYOUTS:
        known = (*LAYOUTS, ALL)
        close = difflib.get_close_matches(layout, known, n=1)
        raise AuditError(
            f"unknown layout '{layout}'; " + (f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}")
        )
    if not records or any(not record.results for record in records):
        raise AuditError("a run holds no results; there is nothing to tabulate")
    options = options or Options()
    if not 0 < options.leakage_threshold < 1:
        raise AuditError(
            f"--leakage-threshold {options.leakage_threshold:g}: the scale goes from 0, an untrained network, to 1, "
            "real images; give a number between"
        )
    chosen = LAYOUTS.values() if layout == ALL else (LAYOUTS[layout],)
    return [table for make in chosen for table in make(records, published(), options)]
