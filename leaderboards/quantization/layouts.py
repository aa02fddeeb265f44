"""A layout's name to its tables."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from audit.errors import AuditError
from audit.records import Record
from leaderboards.cells import Table
from leaderboards.quantization.claims import claims
from leaderboards.quantization.grids import table_1, table_2, table_3
from leaderboards.quantization.measured import Measured
from leaderboards.quantization.others import table_4, table_5
from leaderboards.quantization.published import Published, published

Layout = Callable[[Measured, Published], Table]

LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "quantization-1": table_1,
        "quantization-2": table_2,
        "quantization-3": table_3,
        "quantization-4": table_4,
        "quantization-5": table_5,
        "quantization-claims": claims,
    }
)
ALL = "quantization"


def build(layout: str, records: Sequence[Record]) -> list[Table]:
    """The table of ``layout``, or for 'quantization' all of them, out of the runs of a track, or of one.

    Raises AuditError for an unknown layout, and where no run has an evasion.
    """
    if layout != ALL and layout not in LAYOUTS:
        close = difflib.get_close_matches(layout, (*LAYOUTS, ALL), n=1)
        raise AuditError(f"unknown layout '{layout}'; did you mean '{close[0] if close else ALL}'?")
    found = Measured.of(records)
    chosen = LAYOUTS.values() if layout == ALL else (LAYOUTS[layout],)
    return [make(found, published()) for make in chosen]
