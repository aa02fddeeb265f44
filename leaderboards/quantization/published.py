"""The values that the quantisation paper prints: a data file."""

import tomllib
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, model_validator

FILE = Path(__file__).parents[1] / "published" / "quantization.toml"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Said(_Model):
    """One cell: a ``value`` in the paper's unit, and how it is ``printed`` where that is otherwise; or ``text``."""

    value: float | None = None
    text: str = ""
    printed: str = ""

    @model_validator(mode="after")
    def _one_of_two(self) -> "Said":
        if (self.value is None) == (not self.text):
            raise ValueError("a published cell has either a value or text")
        return self

    @property
    def shown(self) -> str:
        return self.printed or (self.text if self.value is None else f"{self.value:g}")


class Row(_Model):
    """Of Tables 1 to 3: a triple of parameters before (Q1) or after (Q2) quantisation, a cell per column."""

    triple: str
    stage: str
    cells: tuple[Said, ...]

    @property
    def values(self) -> tuple[float, float, float]:
        one, two, three = map(float, self.triple.split(","))
        return one, two, three


class Range(_Model):
    """The variation of every column over the triples."""

    stage: str
    cells: tuple[Said, ...]


class Grid(_Model):
    """Tables 1 to 3."""

    source: str
    network: str
    rows: tuple[Row, ...]
    variation: tuple[Range, ...] = ()
    notes: tuple[str, ...] = ()


class Magnitudes(_Model):
    strength: str
    name: str
    cells: tuple[Said, ...]


class Table4(_Model):
    source: str
    network: str
    rows: tuple[Magnitudes, ...]
    notes: tuple[str, ...] = ()


class Level(_Model):
    name: str
    cells: tuple[Said, ...]


class Table5(_Model):
    source: str
    network: str
    rows: tuple[Level, ...]
    notes: tuple[str, ...] = ()


class Published(_Model):
    """Everything of the data file. Columns run by ``codings`` and, in Tables 1 and 2, within them by ``strengths``."""

    title: str
    authors: str
    source: str
    dataset: str
    dataset_name: str
    codings: tuple[str, ...]
    strengths: tuple[str, ...]
    stages: dict[str, str]
    table_1: Grid
    table_2: Grid
    table_3: Grid
    table_4: Table4
    table_5: Table5


@cache
def published() -> Published:
    return Published.model_validate(tomllib.loads(FILE.read_text(encoding="utf-8")))
