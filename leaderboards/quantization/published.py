"""The values that the quantisation paper prints: a data file."""

import tomllib
from functools import cache
from pathlib import Path

from leaderboards.said import Quoted, Said

FILE = Path(__file__).parents[1] / "published" / "quantization.toml"


class Row(Quoted):
    """Of Tables 1 to 3: a triple of parameters before (Q1) or after (Q2) quantisation, a cell per column."""

    triple: str
    stage: str
    cells: tuple[Said, ...]

    @property
    def values(self) -> tuple[float, float, float]:
        one, two, three = map(float, self.triple.split(","))
        return one, two, three


class Range(Quoted):
    """The variation of every column over the triples."""

    stage: str
    cells: tuple[Said, ...]


class Grid(Quoted):
    """Tables 1 to 3."""

    source: str
    network: str
    rows: tuple[Row, ...]
    variation: tuple[Range, ...] = ()
    notes: tuple[str, ...] = ()


class Magnitudes(Quoted):
    strength: str
    name: str
    cells: tuple[Said, ...]


class Table4(Quoted):
    source: str
    network: str
    rows: tuple[Magnitudes, ...]
    notes: tuple[str, ...] = ()


class Level(Quoted):
    name: str
    cells: tuple[Said, ...]


class Table5(Quoted):
    source: str
    network: str
    rows: tuple[Level, ...]
    notes: tuple[str, ...] = ()


class Claims(Quoted):
    """By how many percent quantisation widens the variation over parameters."""

    source: str
    loss_variation: float
    spike_variation: float
    notes: tuple[str, ...] = ()


class Published(Quoted):
    """Everything of the data file. Columns run by ``codings`` and, in Tables 1 and 2, within them by ``strengths``."""

    title: str
    authors: str
    source: str
    dataset: str
    dataset_name: str
    codings: tuple[str, ...]
    strengths: tuple[str, ...]
    stages: dict[str, str]
    claims: Claims
    table_1: Grid
    table_2: Grid
    table_3: Grid
    table_4: Table4
    table_5: Table5


@cache
def published() -> Published:
    return Published.model_validate(tomllib.loads(FILE.read_text(encoding="utf-8")))
