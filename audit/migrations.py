"""Records of earlier schemas, brought to today's: one function per step. No torch."""

from collections.abc import Callable, Mapping
from typing import Any

# What a suite was called by the labels of its attacks, before records named their suites.
NAMELESS = {
    "class-leakage-v1": (
        "reconversion",
        "direct-inversion",
        "adaptive-reconversion (relu)",
        "adaptive-reconversion (clip)",
        "adaptive-reconversion (clip-floor)",
        "adaptive-reconversion (rate-curve)",
        "adaptive-reconversion (distilled)",
        "adaptive-inversion",
        "black-box-inversion",
        "label-only-inversion",
        "weight-recovery",
    ),
    "membership-v1": ("membership-inference",),
    "paper-v1": ("reconversion", "direct-inversion"),
}


def migrated(document: Any) -> Any:
    """``document`` as the newest schema has it; what is no record of a known schema comes back as it is.

    Never changes a number: a step renames, or adds what can be read from the rest. Schema 2 has grown since without a
    step: a target's ``size`` and ``evasions`` and evidence of the kind 'adversarial', which older records lack, are
    optional.
    """
    while isinstance(document, dict) and type(version := document.get("schema_version")) is int and version in STEPS:
        try:
            document = STEPS[version](document)
        except (AttributeError, TypeError):  # its parts are of other kinds than that schema's
            return document
    return document


def _from_1(document: dict[str, Any]) -> dict[str, Any]:
    """2 names the suites that a run completed, and knows who submitted it."""
    done = [
        {attack.get("attack") for attack in defense.get("attacks", ())}
        for result in document.get("results", ())
        for defense in result.get("defenses", ())
    ]
    suites = [name for name, labels in NAMELESS.items() if done and all(set(labels) <= attacks for attacks in done)]
    return {**document, "schema_version": 2, "suites": suites, "submission": None, "external": None}


STEPS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}
