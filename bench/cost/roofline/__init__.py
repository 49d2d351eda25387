"""What a device can do at best, what a file promises, and why a cell delivered less."""

from bench.cost.roofline.causes import explain_shortfall
from bench.cost.roofline.promise import Promise, promise_of

__all__ = ["Promise", "explain_shortfall", "promise_of"]
