"""Which formula counts each ONNX operator."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import NodeProto

from bench.cost.ledger import words
from bench.cost.onnx_formulas import (
    Rule,
    attention,
    conv_transpose,
    convolution,
    einsum,
    elementwise,
    gemm,
    group_query_attention,
    matmul,
    matmul_nbits,
    multi_head_attention,
    nhwc_convolution,
    no_macs,
    packed_attention,
    recurrent,
)
from bench.cost.onnx_surrogate import STANDARD
from bench.formats.qonnx import QUANTIZERS, belongs

WEIGHT: Mapping[tuple[str, str], tuple[int, ...]] = {
    ("", "QLinearConv"): (3,),
    ("", "QLinearMatMul"): (3, 0),
    ("", "MatMul"): (1, 0),
    ("", "MatMulInteger"): (1, 0),
    ("", "Einsum"): (1, 0),
    ("ms", "QGemm"): (3,),
}
"""Which input names the layer; input 1 of every other operator with MACs."""

FREE_ELEMENTWISE = words("""
Add Sub Mul Div Pow Concat Expand Sum Max Min Mean Where
""")
FREE_PLAIN = words("""
Abs Acos Acosh And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor
BitCast Cast CastLike Ceil Celu CenterCropPad Clip Col2Im Compress Constant ConstantOfShape Cos Cosh CumProd CumSum DepthToSpace
DequantizeLinear Dropout DynamicQuantizeLinear Elu Equal Erf Exp EyeLike Flatten Floor GatherElements GatherND Gelu
GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample HardSigmoid HardSwish Hardmax Identity
IsInf IsNaN LRN LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool MaxPool MaxRoiPool MaxUnpool
MeanVarianceNormalization Mish Mod Neg NonMaxSuppression NonZero Not OneHot Or Pad QuantizeLinear Range Reciprocal
ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
Relu Reshape Resize ReverseSequence RoiAlign RotaryEmbedding Round Scatter ScatterElements ScatterND Selu Shape Shrink
Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Swish Tan Tanh
ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze Upsample Xor
""")
FREE_EXTENSION = words("""
QLinearSigmoid QLinearLeakyRelu QLinearSoftmax QLinearAveragePool QLinearGlobalAveragePool QLinearConcat
QuantizeLinear DequantizeLinear Gelu QuickGelu NhwcMaxPool RotaryEmbedding
""")

RULES: Mapping[tuple[str, str], Rule] = {
    **{("", name): no_macs() for name in FREE_PLAIN},
    **{("", name): elementwise for name in FREE_ELEMENTWISE},
    **{("ms", name): no_macs() for name in FREE_EXTENSION},
    **{("qonnx", name): no_macs() for name in QUANTIZERS},
    ("", "BatchNormalization"): no_macs(1, 2),
    ("", "InstanceNormalization"): no_macs(1, 2),
    ("", "GroupNormalization"): no_macs(1, 2),
    ("", "LayerNormalization"): no_macs(1, 2),
    ("", "RMSNormalization"): no_macs(1),
    ("", "SimplifiedLayerNormalization"): no_macs(1),
    ("", "Gather"): no_macs(0),
    ("", "PRelu"): no_macs(1),
    ("", "Conv"): convolution(1, 2),
    ("", "DeformConv"): convolution(1, 3),
    ("", "ConvInteger"): convolution(1, -1, 3),
    ("", "QLinearConv"): convolution(3, 8, 5),
    ("", "ConvTranspose"): conv_transpose,
    ("", "MatMul"): matmul(0, 1),
    ("", "MatMulInteger"): matmul(0, 1, zeros=(2, 3)),
    ("", "QLinearMatMul"): matmul(0, 3, zeros=(2, 5)),
    ("", "Gemm"): gemm(0, 1, 2),
    ("", "Einsum"): einsum,
    ("", "LSTM"): recurrent(4),
    ("", "GRU"): recurrent(3),
    ("", "RNN"): recurrent(1),
    ("", "Attention"): attention,
    ("ms", "Attention"): packed_attention,
    ("ms", "QAttention"): packed_attention,
    ("ms", "MultiHeadAttention"): multi_head_attention,
    ("ms", "GroupQueryAttention"): group_query_attention,
    ("ms", "DynamicQuantizeLSTM"): recurrent(4, zeros=(9, 11)),
    ("ms", "FusedConv"): convolution(1, 2),
    ("ms", "NhwcConv"): nhwc_convolution,
    ("ms", "NhwcFusedConv"): nhwc_convolution,
    ("ms", "FusedGemm"): gemm(0, 1, 2),
    ("ms", "QGemm"): gemm(0, 3, 6, zeros=(2, 5)),
    ("ms", "FusedMatMul"): matmul(0, 1),
    ("ms", "TransposeMatMul"): matmul(0, 1),
    ("ms", "MatMulIntegerToFloat"): matmul(0, 1, bias=6, zeros=(4, 5)),
    ("ms", "DynamicQuantizeMatMul"): matmul(0, 1, bias=4, zeros=(-1, 3)),
    ("ms", "MatMulNBits"): matmul_nbits,
    ("ms", "QLinearAdd"): no_macs(0, 3),
    ("ms", "QLinearMul"): no_macs(0, 3),
    ("ms", "BiasGelu"): no_macs(1),
    ("ms", "FastGelu"): no_macs(1),
    ("ms", "SkipLayerNormalization"): no_macs(2, 3, 4),
    ("ms", "SkipSimplifiedLayerNormalization"): no_macs(2, 3),
    ("ms", "EmbedLayerNormalization"): no_macs(2, 3, 4, 5, 6),
    ("ms", "QEmbedLayerNormalization"): no_macs(2, 3, 4, 5, 6),
}


def kind(node: NodeProto) -> tuple[str, str]:
    """The key of a node in `RULES`."""
    if belongs(node):
        return "qonnx", node.op_type
    domain = {"com.microsoft": "ms"}.get(node.domain, "" if node.domain in STANDARD[:2] else node.domain)
    return domain, node.op_type


def weight_name(node: NodeProto) -> list[str]:
    """Names of the inputs that may be the weight of an operator with MACs, the likeliest first."""
    return [node.input[index] for index in WEIGHT.get(kind(node), (1,)) if index < len(node.input)]
