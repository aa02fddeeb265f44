"""A cell of a published table: what a paper says."""

from pydantic import BaseModel, ConfigDict, model_validator


class Quoted(BaseModel):
    """Base of everything that is read from a file of published values: no field more, none less."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Said(Quoted):
    """A ``value`` in the unit that the paper prints, and how it is ``printed`` where that is otherwise; or ``text``."""

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
