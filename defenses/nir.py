"""A network that another framework or a chip's tools wrote down as a NIR graph, as a defense."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from audit.registry import register_defense
from audit.spiking.given import Given
from audit.spiking.neuron import Reset
from audit.spiking.nir import Discretisation, read_nir
from audit.spiking.settings import Positive, Simulated
from audit.spiking.strangers import Expected


@dataclass(frozen=True)
class Nir(Given, Simulated):
    """Reads the target from a NIR file, what snnTorch, SpikingJelly and the tools of neuromorphic chips exchange.

    Neuromorphic Intermediate Representation, Pedersen et al., Nature Communications, 2024. ``graph`` names the file;
    '{seed}' in it stands for the run's seed. Needs the package nir: pip install 'snn-privacy-audit[nir]'.

    Time-steps, coding and ``dt`` are not in the file. Currents count by r dt/tau (LIF) or r dt (IF): ``dt`` is that of
    the exporter, 1e-4 for snnTorch and SpikingJelly, 1 for sinabs' IF. ``reset``: of neurons whose metadata does not
    say it, as NIR defines the hard one only and snnTorch writes its soft one as if it were hard; its default, a soft
    reset one step later, is no neuron of ours where there is a leak. SpikingJelly fires at v = v_threshold as well.
    ``drop_output_neurons``: a network that ends in neurons is read without these, and its logits are their summed
    input; otherwise it is refused, since a spike count is no logit here. Whatever else cannot be represented is an
    error that names the node. What `checkpoint` says of data and of training is true here.
    """

    setting: ClassVar[str] = "nir.graph"
    example: ClassVar[str] = "network-seed{seed}.nir"

    graph: str | None = None
    dt: Positive = 1e-4
    reset: Reset = "hard"
    drop_output_neurons: bool = False

    def parse(self, content: bytes, where: str, expected: Expected) -> nn.Module:
        how = Discretisation(self.encoder, self.time_steps, self.dt, self.reset, self.drop_output_neurons)
        return read_nir(content, where, expected, how)


register_defense("nir", Nir)
