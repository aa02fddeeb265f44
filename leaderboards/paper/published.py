"""The values that the PrivateSNN paper prints, and which defense stands for which of its systems: a data file."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from leaderboards.said import Quoted, Said

FILE = Path(__file__).parents[1] / "published" / "privatesnn.toml"

Tick = Literal["addressed", "not addressed"]


class Setup(Quoted):
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


class System(Quoted):
    """``defense``: the registered name of what stands for it here."""

    name: str
    defense: str


class Ticks(Quoted):
    """A row of Table 1: systems that the paper judges together, and the sentence that does."""

    group: str
    systems: tuple[str, ...]
    data_leakage: Tick
    class_leakage: Tick
    quote: str


class Table1(Quoted):
    dataset: str
    source: str
    rows: tuple[Ticks, ...]


class Accuracy(Quoted):
    """A row of Table 2, accuracy in percent; ``train_data``: whether it requires the training data, as printed."""

    dataset: str
    system: str
    train_data: str
    accuracy: Said


class Table2(Quoted):
    source: str
    rows: tuple[Accuracy, ...]


class Ablation(Quoted):
    """A row of Table 3, accuracy in percent; ``quotes``: what stands for its ticks, from ``where`` in the text."""

    method: str
    system: str
    samples: str
    accuracy: Said
    data_leakage: Tick
    class_leakage: Tick
    quotes: tuple[str, ...]
    where: str


class Table3(Quoted):
    dataset: str
    source: str
    rows: tuple[Ablation, ...]


class Distance(Quoted):
    """A cell of Table 4. ``attack``: ours for the scenario; ``systems``: what is attacked."""

    scenario: str
    attack: str
    encryption: bool
    systems: tuple[str, ...]
    fid: Said


class Table4(Quoted):
    dataset: str
    source: str
    rows: tuple[Distance, ...]


class Efficiency(Quoted):
    """A row of Table 5: accuracy in percent, ``ratio`` E_ANN / E_SNN."""

    system: str
    time_steps: int
    accuracy: Said
    ratio: Said


class Table5(Quoted):
    dataset: str
    source: str
    rows: tuple[Efficiency, ...]


class Point(Quoted):
    """A point of a figure that the text states, in percent. ``at``: T or number of images; None for a level line."""

    system: str
    at: int | None = None
    accuracy: Said
    source: str


class Curve(Quoted):
    """Figure 5a or 5b. ``systems``: those that it draws."""

    dataset: str
    source: str
    systems: tuple[str, ...]
    quotes: tuple[str, ...]
    points: tuple[Point, ...]


class Panel(Quoted):
    """A panel of Figure 6; without an attack, the original images."""

    panel: str
    attack: str = ""
    systems: tuple[str, ...] = ()
    quote: str = ""


class Figure6(Quoted):
    dataset: str
    source: str
    rows: tuple[Panel, ...]


class Published(Quoted):
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
