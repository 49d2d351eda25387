"""The names of the notes that steps leave in `Compressed.notes`, which is `facts["compress"]` of a record.

Each name says what its value is. Layers go by their module path, parameters by theirs.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.types import Json

BATCH = "batch"
"""Text: why the files take one example at a time."""
BITS = "bits"
"""Text: the step after which `WEIGHT_BITS` and `PACKED_BYTES` no longer held."""
BRANCHES = "branches"
"""The layers that ended the branches that went, as text -> further layers that went, because nothing needed them any more."""
CHANNELS = "channels"
"""Layer -> [channels or neurons before any step, after the last]."""
CONVERTED = "converted"
"""Text: that an .onnx file became a torch network to be compressed, and at which operator set it was written again."""
ENTROPY = "entropy"
"""Text: why the weights are not coded."""
EXTERNAL_DATA = "external_data"
"""Text: how many tensors outside an ONNX file were taken into one file."""
FACTORIZED = "factorized"
"""Layer -> {"rank": its ranks, "macs": [before, after]}."""
HASHED = "hashed"
"""Parameter -> {"buckets": how many values it has, "seed": that of the hash}."""
INPUT_SHAPE = "input_shape"
"""Text: which free axes of a file were fixed."""
MIXED_INT8 = "mixed_int8"
"""{"keep_float": layers, "held_out_score": {"float32", "int8", "mixed"}, "loss_added_alone": {layer: loss}}."""
MIXED_FIXED = "mixed_fixed"
"""{"weight_bits": {layer: bits}, "held_out_score": {"float32", "fixed", "mixed"}, "loss_alone": {layer: {bits: loss}}}."""
NM = "nm"
"""Pattern, as "2:4" -> the layers that could not take it and stayed dense."""
NORM = "norm"
"""Kind of regularization -> [sum of magnitudes before training, after it]."""
LAYOUT = "layout"
"""Text for the record's reasons: which calibration samples were turned to the layout of their input."""
NOT_FACTORIZED = "not_factorized"
"""Layer -> why it stayed."""
NOT_SEPARABLE = "not_separable"
"""Layer -> why it stayed."""
OUTSIDE_LAYERS = "outside_layers"
"""Text for the record's reasons: the parameters that no step on single weights reaches."""
PACKED_BYTES = "packed_bytes"
"""Bytes of all parameters with few-bit weights packed, their scales in float32."""
ROUNDED = "rounded"
"""Text for the record's reasons: which share of the channels was asked for, and which went."""
SENSITIVITY = "sensitivity"
"""{"shares": {layer: share it lost, 0 to 1}, "train_score": of the task, "drop_of_all_pp": as `Task.drop`}."""
SEPARABLE = "separable"
"""The layers that became depthwise-separable."""
SHARED = "shared"
"""Layer -> {"clusters": how many values it has, "squared_error": share of the squared weights that was lost}."""
SPARSITY = "sparsity"
"""The share of all weights of convolutions and linear layers that is zero, 0 to 1."""
STUDENT = "student"
"""Text: the network that took the model's place."""
WEIGHT_BITS = "weight_bits"
"""Layer -> bits of one weight."""

Notes = Mapping[str, Json]


def merged(notes: Notes, name: str, found: Notes) -> Notes:
    """The notes with `found` added to what the note `name`, a mapping, holds already."""
    return {**notes, name: {**notes.get(name, {}), **found}}


def reasons(left: Mapping[str, str]) -> str:
    """Why layers stay, in one line. Groups layers by reason and names at most three of each group."""
    found: dict[str, list[str]] = {}
    for name, reason in left.items():
        found.setdefault(reason, []).append(name)
    return "; ".join(f"{_some(names)}: {reason}" for reason, names in found.items())


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
