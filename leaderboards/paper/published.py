"""The values that the PrivateSNN paper prints, and which defense stands for which of its systems: a data file."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

FILE = Path(__file__).parents[1] / "published" / "privatesnn.toml"

Tick = Literal["addressed", "not addressed"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Said(_Model):
    """One cell: a ``value`` in the unit that the paper prints, or ``text``; never both, never neither."""

    value: float | None = None
    text: str = ""

    @model_validator(mode="after")
    def _one_of_two(self) -> "Said":
        if (self.value is None) == (not self.text):
            raise ValueError("a published cell has either a value or text")
        return self

    @property
    def shown(self) -> str:
        return self.text if self.value is None else f"{self.value:g}"


class Setup(_Model):
    """How the paper trained and converted on one data set. ``name``: as tables print the data set."""

    name: str
    network: str
    time_steps: int
    synthetic_images: int
    epochs: int
    learning_rate: float
    distillation: float
    temperature: float
    training_images: int
    test_images: int


class System(_Model):
    """``defense``: the registered name of what stands for it here."""

    name: str
    defense: str


class Ticks(_Model):
    """A row of Table 1: systems that the paper judges together, and the sentence that does."""

    group: str
    systems: tuple[str, ...]
    data_leakage: Tick
    class_leakage: Tick
    quote: str


class Table1(_Model):
    dataset: str
    source: str
    rows: tuple[Ticks, ...]


class Accuracy(_Model):
    """A row of Table 2, accuracy in percent; ``train_data``: whether it requires the training data, as printed."""

    dataset: str
    system: str
    train_data: str
    accuracy: Said


class Table2(_Model):
    source: str
    rows: tuple[Accuracy, ...]


class Ablation(_Model):
    """A row of Table 3, accuracy in percent; ``quotes``: what stands for its ticks, from ``where`` in the text."""

    method: str
    system: str
    samples: str
    accuracy: Said
    data_leakage: Tick
    class_leakage: Tick
    quotes: tuple[str, ...]
    where: str


class Table3(_Model):
    dataset: str
    source: str
    rows: tuple[Ablation, ...]


class Distance(_Model):
    """A cell of Table 4. ``attack``: ours for the scenario; ``systems``: what is attacked."""

    scenario: str
    attack: str
    encryption: bool
    systems: tuple[str, ...]
    fid: Said


class Table4(_Model):
    dataset: str
    source: str
    rows: tuple[Distance, ...]


class Efficiency(_Model):
    """A row of Table 5: accuracy in percent, ``ratio`` E_ANN / E_SNN."""

    system: str
    time_steps: int
    accuracy: Said
    ratio: Said


class Table5(_Model):
    dataset: str
    source: str
    rows: tuple[Efficiency, ...]


class Point(_Model):
    """A point of a figure that the text states, in percent. ``at``: T or number of images; None for a level line."""

    system: str
    at: int | None = None
    accuracy: Said
    source: str


class Curve(_Model):
    """Figure 5a or 5b. ``systems``: those that it draws."""

    dataset: str
    source: str
    systems: tuple[str, ...]
    quotes: tuple[str, ...]
    points: tuple[Point, ...]


class Panel(_Model):
    """A panel of Figure 6; without an attack, the original images."""

    panel: str
    attack: str = ""
    systems: tuple[str, ...] = ()
    quote: str = ""


class Figure6(_Model):
    dataset: str
    source: str
    rows: tuple[Panel, ...]


class Published(_Model):
    """Everything of the data file. ``drawn``: what stands in a cell whose point can only be seen."""

    title: str
    authors: str
    drawn: str
    setups: dict[str, Setup]
    systems: dict[str, System]
    others: dict[str, str] = Field(default_factory=dict)
    table_1: Table1
    table_2: Table2
    table_3: Table3
    table_4: Table4
    table_5: Table5
    figure_5a: Curve
    figure_5b: Curve
    figure_6: Figure6

    def defense_of(self, system: str) -> str:
        return self.systems[system].defense

    def name_of(self, defense: str) -> str:
        """How tables call a defense: as the paper does, where it has it."""
        named = next((s.name for s in self.systems.values() if s.defense == defense), None)
        return named or self.others.get(defense, defense)

    def has(self, defense: str) -> bool:
        return any(s.defense == defense for s in self.systems.values())


@cache
def published() -> Published:
    return Published.model_validate(tomllib.loads(FILE.read_text(encoding="utf-8")))
