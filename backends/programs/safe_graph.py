"""What the graph of a torch.export archive may hold: operators of tensors, and sizes that are plain arithmetic.

torch looks up an operator by a dotted path from `torch`, so a graph could name `torch.hub.os.system`; and it reads sizes
with `sympy.sympify`, which evaluates any Python. Both are checked in the text, before torch sees it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

OPERATOR = re.compile(
    r"torch\.ops\.(?!load_library|import_module|loaded_libraries)[a-z]\w*(\.(?!\w*__)\w+){1,2}"
    r"|torch\.sym_\w+|math\.[a-z]\w*"
    r"|_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_|xor|not_|lshift|rshift)"
)
FUNCTIONS = frozenset(
    [
        "Symbol",
        "Integer",
        "Float",
        "Rational",
        "Add",
        "Mul",
        "Pow",
        "Max",
        "Min",
        "Eq",
        "Ne",
        "Equality",
        "Unequality",
        "And",
        "Or",
        "Not",
        "LessThan",
        "GreaterThan",
        "StrictLessThan",
        "StrictGreaterThan",
        "floor",
        "ceiling",
        "FloorDiv",
        "ModularIndexing",
        "Where",
        "PythonMod",
        "Mod",
        "CleanDiv",
        "CeilToInt",
        "FloorToInt",
        "CeilDiv",
        "IntTrueDiv",
        "FloatTrueDiv",
        "LShift",
        "RShift",
        "IsNonOverlappingAndDenseIndicator",
        "TruncToFloat",
        "TruncToInt",
        "RoundToInt",
        "RoundDecimal",
        "ToFloat",
        "FloatPow",
        "PowByNatural",
        "Identity",
    ]
)
SYMBOL = re.compile(r"[a-z]{1,2}\d+|oo|int_oo|true|false")
PARTS = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.keyword, ast.Name, ast.Constant, ast.Load,
    ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip
LONGEST = 10_000
"""Characters of one size. Python's parser may end the process for text nested far deeper."""


def find_danger(value: object) -> str:
    """The first operator or size in the JSON of a graph that may run code, in words; "" where there is none."""
    return next(_dangers(value), "")


def _dangers(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        target, size = value.get("target"), value.get("expr_str")
        if {"target", "inputs"} <= value.keys() and not (isinstance(target, str) and OPERATOR.fullmatch(target)):
            yield f"the operator {str(target)[:80]!r}"
        if size is not None and not (isinstance(size, str) and is_arithmetic(size)):
            yield f"the size {str(size)[:80]!r}"
        for item in value.values():
            yield from _dangers(item)
    elif isinstance(value, list):
        for item in value:
            yield from _dangers(item)


def is_arithmetic(text: str) -> bool:
    """Whether a size is symbols, numbers and the functions of sizes, and nothing else."""
    if len(text) > LONGEST:
        return False
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    named = {
        id(node.args[0]) for node in nodes if isinstance(node, ast.Call) and _calls(node) == "Symbol" and node.args
    }
    return all(isinstance(node, PARTS) and _is_plain(node, named) for node in nodes)


def _is_plain(node: ast.AST, named: set[int]) -> bool:
    if isinstance(node, ast.Call):
        return _calls(node) in FUNCTIONS
    if isinstance(node, ast.Name):
        return node.id in FUNCTIONS or bool(SYMBOL.fullmatch(node.id))
    if isinstance(node, ast.Constant):
        text = isinstance(node.value, str) and id(node) in named and bool(SYMBOL.fullmatch(node.value))
        return text or isinstance(node.value, (int, float))
    return True


def _calls(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""
