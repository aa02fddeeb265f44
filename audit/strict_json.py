"""JSON from a stranger: what two readers could take for two things is refused."""

import json
from typing import Any

DEEPEST = 64  # whoever copies, compares or writes a value again recurses into it
LARGEST = 2**63  # whole numbers from here on are none of other readers'


def strict_json(content: bytes) -> Any:
    """The value in UTF-8 ``content``. Raises ValueError for a key given twice, NaN, an infinity, a whole number beyond
    64 bits, text that is no Unicode, values nested deeper than ``DEEPEST``, or no JSON at all."""
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_once,
            parse_constant=_refuse,
            parse_float=_finite,
            parse_int=_whole,
        )
    except RecursionError as error:
        raise ValueError(f"values are nested deeper than {DEEPEST}") from error
    _check(value, DEEPEST)
    return value


def _check(value: Any, deeper: int) -> None:
    if isinstance(value, str):
        value.encode()  # half of a surrogate pair can be read, and never written again
    elif isinstance(value, dict | list):
        if not deeper:
            raise ValueError(f"values are nested deeper than {DEEPEST}")
        for item in value:
            _check(item, deeper - 1)
        for item in value.values() if isinstance(value, dict) else ():
            _check(item, deeper - 1)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:80]!r} is given twice")
        found[key] = value
    return found


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:30]} is too large")
    return value


def _whole(text: str) -> int:
    value = int(text) if len(text) < 21 else LARGEST
    if not -LARGEST <= value < LARGEST:
        raise ValueError(f"the number {text[:30]} is too large")
    return value
