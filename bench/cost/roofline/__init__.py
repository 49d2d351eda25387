"""What a device can do at best, what a file promises, and why a cell delivered less."""

from bench.cost.roofline.bound import Roofline, bound_layers, least_seconds, read_roofline
from bench.cost.roofline.causes import explain_shortfall
from bench.cost.roofline.match import time_layers
from bench.cost.roofline.promise import Promise, promise_of

__all__ = [
    "Promise",
    "Roofline",
    "bound_layers",
    "explain_shortfall",
    "least_seconds",
    "promise_of",
    "read_roofline",
    "time_layers",
]
