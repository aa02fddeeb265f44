"""What a run would do: its pieces, what of them is in the store, and how long the rest takes."""

from dataclasses import dataclass

from audit.monitor import SilentMonitor
from audit.plan import Piece, attacked, make, protected, trained
from audit.request import Request, begin
from audit.seed import OneSeed
from audit.store import Store
from audit.workshop import ClosedWorkshop, NotMade


@dataclass
class Line:
    """Pieces of one kind. ``seconds``: what the missing ones take in one process; None where none was ever made."""

    name: str
    stored: int = 0
    missing: int = 0
    seconds: float | None = 0.0


def look(request: Request, store: Store) -> list[Line]:
    """In the order of the rounds. Raises AuditError as the run would, before anything is made."""
    data = begin(request)
    guess = store.costs.of(request.scale)
    shop = ClosedWorkshop(store, SilentMonitor(), request.device)
    seeds = {seed: OneSeed(shop, data, request, seed) for seed in request.seeds}
    lines: dict[str, Line] = {}

    def see(piece: Piece) -> str | None:
        line = lines.setdefault(name := _kind(piece, request), Line(name))
        try:
            found = make(piece, seeds[piece.seed])
        except NotMade:
            line.missing += 1
            expected = guess(*_stage(piece, request))
            line.seconds = None if line.seconds is None or expected is None else line.seconds + expected
            return None
        line.stored += 1
        return found

    for piece in trained(request):
        see(piece)
    twins = {}
    for piece in protected(request):
        assert piece.defense is not None
        # One whose target is missing may have a twin of its own.
        twins[piece.seed, piece.defense] = see(piece) or f"{piece.seed} {piece.defense}"
    for piece in attacked(request, twins):
        see(piece)
    return list(lines.values())


def _kind(piece: Piece, request: Request) -> str:
    if piece.attack is None:
        return piece.work
    return f"{request.attacks[piece.attack].label}{', on untrained twins' * (piece.work == 'control')}"


def _stage(piece: Piece, request: Request) -> tuple[str, str]:
    """The stage that costs most of the piece, and its label as far as it is known."""
    if piece.attack is not None:
        return "attack", request.attacks[piece.attack].label
    return piece.work, "" if piece.defense is None else request.compared[piece.defense].name
