"""Which settings may name a file: somebody else's options must never make a run read one."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin


@dataclass(frozen=True)
class NoFile:
    """Marks a setting's text as the name of no file; with ``names``, where it is one of these.

    ``Annotated[str, NoFile()]``. Text without a mark may be a path, whatever it is for.
    """

    names: Collection[str] | None = None


def may_be_a_path(annotation: Any, value: str) -> bool:
    """Whether ``value``, as passed to a setting of this type, can name a file: free text can, a number, a truth value
    and a word out of a list cannot."""
    if value == "none" or get_origin(annotation) is Literal:
        return False
    if get_origin(annotation) is Annotated:
        inner, *extra = get_args(annotation)
        marks = [mark for mark in extra if isinstance(mark, NoFile)]
        if marks:
            return not any(mark.names is None or value in mark.names for mark in marks)
        return may_be_a_path(inner, value)
    if parts := [part for part in get_args(annotation) if part is not Ellipsis]:
        return any(may_be_a_path(part, value) for part in parts)
    closed = (int, float, NoneType, Enum)
    return not (isinstance(annotation, type) and issubclass(annotation, closed))
