"""Raw scores of a membership inference, one row per candidate, and every measurement of it from them alone."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from audit.metrics.membership import auc, epsilon_lower_bound, train_test_gap, true_positive_rate
from audit.records import Measurement

FALSE_POSITIVE_RATES = (0.01, 0.001)
SIGNAL = "signals/"


@dataclass(frozen=True)
class Answers:
    """``signals``: by name, a score per candidate [N]; ``members`` bool [N]: whether the teacher was trained on it;
    ``correct`` bool [N]: whether the target classifies it rightly."""

    signals: Mapping[str, Tensor]
    members: Tensor
    correct: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Named tensors to be stored; `of` is the inverse."""
        signals = {f"{SIGNAL}{name}": scores for name, scores in self.signals.items()}
        return {"members": self.members, "correct": self.correct} | signals

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Answers":
        signals = {name.removeprefix(SIGNAL): rows for name, rows in tensors.items() if name.startswith(SIGNAL)}
        return cls(signals, tensors["members"], tensors["correct"])

    def measured(self) -> tuple[Measurement, ...]:
        """The train/test gap, without which none can be read; per signal AUC, TPR at low FPR, bound on epsilon."""
        found: list[Measurement] = [train_test_gap("train/test gap", self.correct, self.members)]
        for name, values in sorted(self.signals.items()):
            found.append(auc(f"AUC, {name}", values, self.members))
            found += [
                true_positive_rate(f"TPR at {100 * rate:g} % FPR, {name}", values, self.members, rate)
                for rate in FALSE_POSITIVE_RATES
            ]
            found.append(epsilon_lower_bound(f"epsilon at least, {name}", values, self.members))
        return tuple(found)
