"""The paper's Fig. 6, once for every requested defense: one image per class and column, the first of each set."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.contracts import Attack, Task
from audit.evidence import Evidence
from audit.pipeline import Prepared
from audit.records import DefenseResult, SeedResult
from audit.registry import Component
from audit.reporting.grid import Pictures
from audit.request import UNDEFENDED, Request


def picture_grids(
    data: Prepared, request: Request, result: SeedResult, evidence: Mapping[tuple[str, str], Evidence]
) -> dict[str, Pictures]:
    """By requested defense: the original, then each attack on the undefended conversion and on that defense.

    ``evidence``: by the name of a target and the label of an attack. A defense without any image has no grid.
    """
    classes = data.task.classes
    original = _first(data.parts.teacher.pixels, data.parts.teacher.labels, len(classes))
    audited = {defense.defense: defense for defense in result.defenses}
    grids: dict[str, Pictures] = {}
    for name in (component.name for component in request.defenses):
        found = [
            (f"{attacker.label}\non {target}", evidence[target, attacker.label].found)
            for attacker in pictured(request.attacks, audited[name])
            for target in dict.fromkeys((UNDEFENDED, name))
            if (target, attacker.label) in evidence
        ]
        columns = [
            (label, _first(_grey_levels(images.images, data.task), images.labels, len(classes)))
            for label, images in found
            if images is not None
        ]
        if columns:
            grids[name] = Pictures(classes, (("original", original), *columns))
    return grids


def pictured(attacks: Sequence[Component[Attack]], audited: DefenseResult) -> list[Component[Attack]]:
    """One variant of every attack, the one that leaks most from the audited defense; in the suite's order."""
    leaks = {a.attack: a.leakage.value if a.leakage and a.leakage.value is not None else -1.0 for a in audited.attacks}
    best: dict[str, Component[Attack]] = {}
    for attacker in attacks:
        known = best.setdefault(attacker.name, attacker)
        if leaks[attacker.label] > leaks[known.label]:
            best[attacker.name] = attacker
    return list(best.values())


def _grey_levels(images: Tensor, task: Task) -> Tensor:
    low, high = task.input_range
    return ((images - low) * (255 / (high - low))).round().clamp(0, 255).to(torch.uint8)


def _first(pixels: Tensor, labels: Tensor, classes: int) -> NDArray[np.uint8]:
    """The first image of every class, uint8 [K, H, W, C]: chosen by nobody."""
    index = torch.stack([(labels == label).nonzero()[0, 0] for label in range(classes)])
    return pixels[index].permute(0, 2, 3, 1).numpy()
