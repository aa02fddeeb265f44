"""A run in pieces that can be made apart from each other: rounds of them, each after the one before."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from audit.request import Request
from audit.seed import OneSeed

Work = Literal["teacher", "evaluator", "second evaluator", "target", "attack", "control"]


@dataclass(frozen=True)
class Piece:
    """What one process makes by itself, of one seed: everything that it needs beside is in the store by then.

    ``defense`` and ``attack`` are places in the request's lists; a 'control' attacks the untrained twin of a target.
    """

    seed: int
    work: Work
    defense: int | None = None
    attack: int | None = None

    def title(self, request: Request) -> str:
        target = "" if self.defense is None else request.compared[self.defense].name
        if self.attack is None:
            return f"{self.work} {target}".rstrip()
        return f"{request.attacks[self.attack].label} on {'the twin of ' * (self.work == 'control')}{target}"


def trained(request: Request) -> list[Piece]:
    """The first round: the teachers and the auditor's evaluators, which are the same for all seeds."""
    evaluators = [Piece(request.seeds[0], "evaluator"), Piece(request.seeds[0], "second evaluator")]
    return [Piece(seed, "teacher") for seed in request.seeds] + evaluators


def protected(request: Request) -> list[Piece]:
    """The second: the targets."""
    return [Piece(seed, "target", place) for seed in request.seeds for place in range(len(request.compared))]


def attacked(request: Request, twins: Mapping[tuple[int, int], str]) -> Iterator[Piece]:
    """The third: every attack on every target, and on one of each shape untrained.

    ``twins``: (seed, place of the defense) -> key of its twin.
    """
    # Attack by attack: what two targets share is mostly made by then, and nobody waits for it.
    for place, attack in enumerate(request.attacks):
        # An untrained network has no members and no accuracy to lose.
        seen: set[str] = set(twins.values()) if attack.evidence in ("membership", "adversarial") else set()
        for (seed, defense), key in twins.items():
            yield Piece(seed, "attack", defense, place)
            if key not in seen:
                seen.add(key)
                yield Piece(seed, "control", defense, place)


def make(piece: Piece, one: OneSeed) -> str:
    """Make a piece, and leave it in the store. Of a target, the key of its twin; of anything else nothing."""
    request = one.request
    defense = None if piece.defense is None else request.compared[piece.defense]
    attack = None if piece.attack is None else request.attacks[piece.attack]
    match piece.work:
        case "teacher":
            _ = one.teacher
        case "evaluator" | "second evaluator":
            one.evaluator(second=piece.work == "second evaluator")
        case "target":
            assert defense is not None
            one.target(defense)
            if request.attacks:
                one.gradients(defense)
                return one.twin(defense).key
        case "attack" | "control":
            assert defense is not None
            assert attack is not None
            if piece.work == "attack":
                one.attacked(defense, attack)
            else:
                one.null(defense, attack)
    return ""
