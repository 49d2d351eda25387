"""pressbench: what compressing a neural network really gains on the hardware it ships on."""

__version__ = "0.1.0"
