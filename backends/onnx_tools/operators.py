"""Which ONNX operators multiply, by name: those of a file, and the kernels ONNX Runtime makes of them.

Travels to the device with ONNX Runtime's session: standard library only, Python 3.10.
"""

from __future__ import annotations

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators a quantizer is after; input 1 is the weight."""
RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
"""Operators with two weights: input 1 for what enters, input 2 for the state."""
LINEAR_MODELS = frozenset({"LinearClassifier", "LinearRegressor", "SVMClassifier", "SVMRegressor"})
"""Operators of ai.onnx.ml that multiply by attributes. Its tree ensembles only compare."""
MULTIPLYING = (
    WEIGHTED
    | RECURRENT
    | LINEAR_MODELS
    | {
        "Attention",
        "AttnLSTM",
        "CausalConvWithState",
        "ConvTransposeWithDynamicPads",
        "DecoderAttention",
        "DecoderMaskedMultiHeadAttention",
        "DecoderMaskedSelfAttention",
        "DeformConv",
        "DynamicSparseAttention",
        "Einsum",
        "FusedConv",
        "FusedGemm",
        "FusedMatMul",
        "FusedMatMulActivation",
        "GemmFastGelu",
        "GroupQueryAttention",
        "LinearAttention",
        "LongformerAttention",
        "MoE",
        "MultiHeadAttention",
        "NhwcConv",
        "NhwcFusedConv",
        "PackedAttention",
        "PackedMultiHeadAttention",
        "PagedAttention",
        "SparseAttention",
        "SparsePagedAttention",
        "SparseToDenseMatMul",
        "TransposeMatMul",
        "VarlenCausalConvWithState",
        "WordConvEmbedding",
    }
)
"""All operators and kernels that multiply in floating point: they decide what "int8" was worth. Optimizers fuse and rename them."""
INTEGER = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulInteger16",
        "MatMulIntegerToFloat",
        "QAttention",
        "QGemm",
        "QLinearConv",
        "QLinearMatMul",
        "QOrderedAttention",
        "QOrderedLongformerAttention",
        "QOrderedMatMul",
    }
)
"""Operators and kernels that multiply in integers."""
PACKED = frozenset(
    {
        "GemmFloat8",
        "MatMulBlockQuantizedFp4Weight",
        "MatMulBlockQuantizedFp8Weight",
        "MatMulBnb4",
        "MatMulFpQ4",
        "MatMulNBits",
        "MatMulNBitsMlp",
        "MatMulNBitsQkv",
        "QMoE",
    }
)
"""Operators whose weight is stored in few bits: what they multiply in is the runtime's choice."""
QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})


def is_quantized(operator: str) -> bool:
    """Whether only a quantized file has this operator."""
    return operator in QDQ | INTEGER | PACKED or operator.startswith(("QLinear", "DynamicQuantize"))


def weight_inputs(operator: str) -> tuple[int, ...]:
    """Which inputs of an operator are its weights; () for one that no quantizer here knows."""
    if operator in WEIGHTED:
        return (1,)
    return (1, 2) if operator in RECURRENT else ()
