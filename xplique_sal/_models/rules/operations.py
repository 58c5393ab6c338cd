"""What TensorFlow's operations do to values, by their type: what rules are chosen by.

A type is in one group at most. What an operation is for may also hang on which of its inputs depend
on what is differentiated to (`Step.active`): a product with a weight is linear, a product of two
activations is not.
"""

from __future__ import annotations

#: Sums of products of two inputs, by the positions of these: linear in each of them.
BILINEAR = {
    "MatMul": (0, 1),
    "BatchMatMul": (0, 1),
    "BatchMatMulV2": (0, 1),
    "BatchMatMulV3": (0, 1),
    "Einsum": (0, 1),
    "Conv2D": (0, 1),
    "Conv3D": (0, 1),
    "DepthwiseConv2dNative": (0, 1),
    "Conv2DBackpropInput": (1, 2),  # transposed convolutions
    "Conv3DBackpropInputV2": (1, 2),
    "DepthwiseConv2dNativeBackpropInput": (1, 2),
}

#: Convolutions, among them.
CONVOLUTIONS = frozenset(name for name in BILINEAR if "Conv" in name)

#: Weighted sums of the values of their first input, the weights being fixed and not negative.
MEANS = frozenset(
    {"AvgPool", "AvgPool3D", "Mean", "Sum", "ResizeBilinear", "SegmentSum", "UnsortedSegmentSum"}
    | {"SegmentMean", "SegmentSumV2"}
)

#: Elementwise sums and differences of all inputs.
SUMS = frozenset({"Add", "AddV2", "AddN", "Sub", "BiasAdd"})

#: Elementwise products and quotients of two inputs.
PRODUCTS = frozenset({"Mul", "RealDiv", "Div", "DivNoNan", "MulNoNan"})

#: Functions of one value, elementwise.
UNARY = frozenset(
    {"Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Tanh", "Sigmoid", "Softplus", "Softsign"}
    | {"Erf", "Erfc", "Exp", "Expm1", "Log", "Log1p", "Sqrt", "Rsqrt", "Square", "Abs"}
    | {"Reciprocal", "Inv", "Sin", "Cos", "Atan", "Sinh", "Cosh", "Neg", "ClipByValue"}
)

#: Normalised exponentials of the last axis.
SOFTMAXES = frozenset({"Softmax", "LogSoftmax"})

#: The largest or smallest of several values of their first input, or of two inputs elementwise.
MAXIMA = frozenset(
    {"MaxPool", "MaxPoolV2", "MaxPool3D", "MaxPoolWithArgmax", "Max", "Min", "SegmentMax"}
    | {"Maximum", "Minimum"}
)

#: What moves, copies, selects or drops values, and computes none: the derivative does the reverse.
MOVES = frozenset(
    {"Reshape", "Squeeze", "ExpandDims", "Transpose", "Identity", "IdentityN", "Cast", "Snapshot"}
    | {"EnsureShape", "CheckNumerics", "PreventGradient", "PlaceholderWithDefault"}
    | {"Pack", "Unpack", "Concat", "ConcatV2", "Split", "SplitV", "Slice", "StridedSlice"}
    | {"Gather", "GatherV2", "GatherNd", "ResourceGather", "ResourceGatherNd", "ReadVariableOp"}
    | {"Pad", "PadV2", "MirrorPad", "Tile", "BroadcastTo", "ReverseV2", "ReverseSequence", "Roll"}
    | {"SpaceToBatchND", "BatchToSpaceND", "SpaceToDepth", "DepthToSpace", "Diag", "DiagPart"}
    | {"MatrixDiagV3", "MatrixDiagPartV3", "MatrixBandPart", "ResizeNearestNeighbor", "TopKV2"}
    | {"Select", "SelectV2", "DynamicPartition", "DynamicStitch", "ParallelDynamicStitch"}
    | {"ScatterNd", "TensorScatterUpdate", "BatchToSpace", "SpaceToBatch", "ExtractImagePatches"}
    | {"TensorListFromTensor", "TensorListStack", "TensorListGetItem", "TensorListSetItem"}
    | {"TensorListReserve", "TensorListPushBack", "TensorListPopBack", "TensorListConcatV2"}
    | {"TensorListSplit", "TensorListGather", "TensorListScatterIntoExistingList"}
    | {"TensorListScatterV2", "TensorListResize", "EmptyTensorList"}
)

#: What runs other operations, each of which has its own rule.
CALLS = frozenset(
    {"While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase"}
    | {"PartitionedCall", "StatefulPartitionedCall"}
)
