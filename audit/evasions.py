"""What all evasions of a strength take together, image by image."""

from collections.abc import Mapping, Sequence

import torch

from audit.metrics.robustness import LOSS, accuracy_loss
from audit.records import AttackResult, Measurement
from audit.robustness import Contrast


def together(attacks: Sequence[AttackResult], contrasts: Mapping[str, Contrast]) -> tuple[Measurement, ...]:
    """By strength, rising, the accuracy lost to all evasions of it together: of `accuracy_loss` with an image as lost
    where any of them makes the target err, which is how RobustBench counts (Croce et al., 2021).

    ``contrasts``: by the attack's name, of those that have one. Where the attacks changed unequally many images, those
    that all of them changed count; fewer victims are the first of more. A random coder answers each attack once: with
    many of them some err by chance, which this counts for the attacker.
    """
    found: dict[float, list[Contrast]] = {}
    for attack in attacks:
        levels = attack.settings.get("levels")
        if attack.attack in contrasts and isinstance(levels, int | float):
            found.setdefault(float(levels), []).append(contrasts[attack.attack])
    measured = []
    for levels, several in sorted(found.items()):
        first, *_ = several = sorted(several, key=lambda one: len(one.labels))
        n = len(first.labels)
        still = torch.stack([one.attacked[:n].argmax(1) == first.labels for one in several]).all(0)
        measured.append(
            accuracy_loss(f"{LOSS}, all evasions, {levels:g}/255", first.clean.argmax(1) == first.labels, still)
        )
    return tuple(measured)
