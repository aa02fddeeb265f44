"""One's own network, audited as it is: here an ANN of any architecture, trained on what the audit gives a teacher.

No file describes what such a forward does, so that this run cannot be submitted; that of a `SpikingNetwork` can.
"""

import torch
import torch.nn.functional as F
from torch import nn

from audit import audit, teacher_images
from audit.reporting.headline import headline


class Own(nn.Module):
    """Logits [N, 10] of images [N, 1, 16, 16] in [-1, 1], by layers of one's own choice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(256, 64), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(F.gelu(self.first(x.flatten(1))))


def train(network: nn.Module, steps: int = 400) -> nn.Module:
    task, images = teacher_images("digits")
    x, optimizer = task.normalise(images.pixels), torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(network(x), images.labels).backward()
        optimizer.step()
    return network


if __name__ == "__main__":
    torch.manual_seed(0)
    record = audit(train(Own()), attacks="all", dataset="digits", out="runs/own-network")
    print(headline(record))
