"""The signals of a membership inference by hand, each against its definition."""

import math

import pytest
import torch
import torch.nn.functional as F

from attacks.membership_inference import gap, lira, log_odds, mean_confidence, rmia
from tests.networks.teachers import generator


@pytest.mark.parametrize(("gamma", "a"), [(1.0, 0.3), (2.0, 0.0), (1.5, 1.0)])
def test_rmia_compares_every_pair(gamma: float, a: float) -> None:
    source = generator(6)
    x, z = torch.rand(9, generator=source), torch.rand(11, generator=source)
    out_x, out_z = torch.rand(3, 9, generator=source), torch.rand(3, 11, generator=source)
    seen = torch.rand(3, 11, generator=source) < 0.5
    seen[0] = False
    found = rmia(x.log(), out_x.log(), z.log(), out_z.log().masked_fill(seen, -math.inf), gamma, a)

    def prior(values: list[float]) -> float:
        return ((1 + a) * sum(values) / len(values) + 1 - a) / 2

    for i in range(9):
        ratio_x = float(x[i]) / prior(out_x[:, i].tolist())
        above = 0
        for j in range(11):
            outside = [float(out_z[s, j]) for s in range(3) if not seen[s, j]]
            above += ratio_x / (float(z[j]) / prior(outside)) >= gamma
        assert float(found[i]) == pytest.approx(above / 11)


def test_lira_by_hand_with_few_shadows_and_with_many() -> None:
    few = torch.tensor([[0.0, 1.0], [2.0, 7.0]])  # variances 2 and 18, on average 10
    torch.testing.assert_close(lira(torch.tensor([3.0, 3.0]), few), torch.tensor([2.0, -1.0]) / math.sqrt(10))
    many = torch.cat([few] * 32)
    expected = torch.tensor([2.0, -1.0]) / many.std(0)
    torch.testing.assert_close(lira(torch.tensor([3.0, 3.0]), many), expected)
    torch.testing.assert_close(lira(torch.tensor([3.0, 3.0]), few[:1]), torch.tensor([3.0, 2.0]))


def test_log_odds_are_those_of_the_softmax_and_do_not_saturate() -> None:
    logits, labels = torch.randn(5, 4, 3, generator=generator(7), dtype=torch.float64), torch.tensor([0, 1, 2, 1])
    p = logits.softmax(-1)[:, torch.arange(4), labels]
    torch.testing.assert_close(log_odds(logits, labels), (p / (1 - p)).log())
    certain = torch.tensor([[100.0, 0.0, 0.0], [200.0, 0.0, 0.0]], dtype=torch.float64)
    odds = log_odds(certain, torch.tensor([0, 0]))
    assert odds[1] - odds[0] == 100
    loss = F.logsigmoid(odds)
    assert loss[0] < loss[1] < 0


def test_the_gap_is_to_the_largest_other_logit() -> None:
    logits = torch.tensor([[1.0, 4.0, 2.0], [1.0, 4.0, 2.0]])
    assert gap(logits, torch.tensor([1, 2])).tolist() == [2.0, -2.0]


def test_confidences_are_averaged_as_probabilities() -> None:
    odds = torch.randn(6, 5, generator=generator(8), dtype=torch.float64)
    p = odds.sigmoid().mean(0)
    torch.testing.assert_close(mean_confidence(odds), (p / (1 - p)).log())
    assert mean_confidence(torch.full((2, 1), 500.0, dtype=torch.float64)).item() == pytest.approx(500)
