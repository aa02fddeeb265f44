"""Temporal codes of one pixel, as their formulas are printed."""

from decimal import Decimal, localcontext


def latency(x: float, steps: int) -> Decimal:
    """(T - 1)(1 - x), before rounding."""
    return (steps - 1) * (1 - Decimal(x))


def log_latency(x: float, steps: int) -> Decimal:
    """(T - 1) - ln(a x + 1) with a = e^(T - 1) - 1, before rounding."""
    with localcontext() as context:
        context.prec = 400  # e^799 has 347 digits
        a = Decimal(steps - 1).exp() - 1
        return (steps - 1) - (a * Decimal(x) + 1).ln()


def phase(x: float, phases: int) -> list[int]:
    """The binary digits of x after the point, rounded down; all of them 1 from 1 - 2^-K on."""
    level = min(int(x * 2**phases), 2**phases - 1)
    return [int(digit) for digit in f"{level:0{phases}b}"]
