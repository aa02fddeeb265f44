"""Privacy auditing and evaluation of spiking neural networks."""

__version__ = "0.1.0"
