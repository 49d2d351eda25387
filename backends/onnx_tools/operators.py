"""Which ONNX operators multiply, by name: those of a file, and the kernels ONNX Runtime makes of them.

Travels to the device with ONNX Runtime's session: standard library only, Python 3.10.
"""

from __future__ import annotations

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators a quantizer is after; input 1 is the weight."""
MULTIPLYING = WEIGHTED | {
    "LSTM",
    "GRU",
    "RNN",
    "Einsum",
    "Attention",
    "MultiHeadAttention",
    "GroupQueryAttention",
}
"""All operators that multiply in floating point: their kernels decide what "int8" was worth."""
FLOAT_KERNELS = MULTIPLYING | {"FusedConv", "NhwcFusedConv", "FusedGemm", "FusedMatMul"}
"""Kernels that multiply in floating point. Optimizers rename and fuse operators."""
INTEGER = frozenset(
    {
        "ConvInteger",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "DynamicQuantizeLSTM",
        "QAttention",
        "QGemm",
        "QLinearConv",
        "QLinearMatMul",
    }
)
"""Operators and kernels that multiply in integers."""
PACKED = frozenset({"MatMulNBits"})
"""Operators whose weight is stored in few bits: what they multiply in is the runtime's choice."""
