"""A network that is there already, as a defense: what somebody else made, audited like the rest."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from audit.registry import register_defense
from audit.spiking.given import Given
from audit.spiking.strangers import Expected, parse_network


@dataclass(frozen=True)
class Checkpoint(Given):
    """Reads the target from a file, as `audit.spiking.files.save_network` writes it; nothing of it is executed.

    ``path`` names a safetensors file; '{seed}' in it stands for the run's seed. What the network was made from cannot
    be enforced, and the tables call its access to private data unknown. It should have been trained on what the audit
    gives a teacher; otherwise membership and leakage are measured against images that it never saw.
    """

    setting: ClassVar[str] = "checkpoint.path"
    example: ClassVar[str] = "network-seed{seed}.safetensors"

    path: str | None = None

    def parse(self, content: bytes, where: str, expected: Expected) -> nn.Module:
        return parse_network(content, where, expected)


register_defense("checkpoint", Checkpoint)
