"""The small language in which a claim says how it is recomputed from a published table.

Entry point: `evaluate`. A Python expression, restricted to what stands here; it is walked node by node and never
executed as code.

Values: numbers, texts, columns (one number per workload), and lists of them.
Names: each solution's short name and `seq_len`, `offset` are columns; `NAME.column` is a column of another table.
Operators: + - * / on numbers and columns; comparisons (chained too), `and`, `or`, `not`; COLUMN[CONDITION] keeps the
rows where it holds. Equal highest values are shared: `wins` counts the row for each of them, and `winner` names them
all, "a = b". Functions: see `_FUNCTIONS` and `Scope.functions`; `std` and `cv` take the divisor of the reading that is
tried.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bakeoff.runs.intervals import Floats

LONGEST = 400  # characters: no claim needs more, and the walk stays shallow


class ExpressionError(ValueError):
    """An expression that is not of this language, or does not fit the table; the text says what and where."""


@dataclass(frozen=True)
class PublishedTable:
    """A published table: columns by short name (NaN where a cell is empty), `seq_len` and `offset` among them; labels
    by short name."""

    columns: Mapping[str, Floats]
    labels: Mapping[str, str]

    def row(self, seq_len: float) -> int:
        found = np.flatnonzero(self.columns["seq_len"] == seq_len)
        if len(found) != 1:
            raise ExpressionError(f"seq_len {seq_len:g} stands {len(found)} times in the table, not once")
        return int(found[0])


@dataclass(frozen=True)
class Scope:
    """What names mean. `taken` is 1 for sample deviations (divisor n - 1) and 0 for population ones."""

    table: PublishedTable
    others: Mapping[str, PublishedTable]
    taken: int = 1

    def functions(self) -> dict[str, Callable[..., Any]]:
        table = self.table
        return {
            **_FUNCTIONS,
            "std": lambda column: _kept(column).std(ddof=self.taken),
            "cv": lambda column: _kept(column).std(ddof=self.taken) / _kept(column).mean(),
            "at": lambda column, seq_len: _present(column[table.row(seq_len)], seq_len),
            "row": lambda seq_len: [table.columns[name][table.row(seq_len)] for name in ("offset", *table.labels)],
            "winner": lambda seq_len: _winner(table, table.row(seq_len)),
            "wins": lambda name: _wins(table, name),
        }


def evaluate(expression: str, scope: Scope) -> Any:
    """The value: a float, bool, text, or a list of these. Anything outside the language is an ExpressionError."""
    if len(expression) > LONGEST:
        raise ExpressionError(f"{len(expression)} characters; at most {LONGEST} are allowed")
    try:
        tree = ast.parse(expression, mode="eval")
        value = _Walk(scope).visit(tree.body)
    except ExpressionError:
        raise
    except (SyntaxError, TypeError, ValueError, IndexError, ZeroDivisionError, RecursionError) as error:
        raise ExpressionError(f"{expression!r}: {error}") from error
    return _plain(value)


def uses_deviation(expression: str) -> bool:
    """Whether the value depends on the divisor, sample or population."""
    return re.search(r"\b(std|cv)\(", expression) is not None


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, str):
        return value
    number = float(value)
    if not np.isfinite(number):
        raise ExpressionError("the value is not a finite number")
    return number


def _kept(column: Any) -> Floats:
    values = np.asarray(column, dtype=float)
    kept = values[~np.isnan(values)]
    if not kept.size:
        raise ExpressionError("a function was given a column without values")
    return kept


def _present(value: float, seq_len: float) -> float:
    if np.isnan(value):
        raise ExpressionError(f"the table has no value at seq_len {seq_len:g}")
    return value


def _leaders(table: PublishedTable, row: int) -> list[str]:
    """Whoever has the row's highest value: several, if it stands there several times."""
    values = {name: table.columns[name][row] for name in table.labels if not np.isnan(table.columns[name][row])}
    return [name for name, value in values.items() if value == max(values.values())]


def _winner(table: PublishedTable, row: int) -> str:
    return " = ".join(table.labels[name] for name in _leaders(table, row)) or "none"


def _wins(table: PublishedTable, name: str) -> int:
    if name not in table.labels:
        raise ExpressionError(f"no solution {name}; there are: {', '.join(table.labels)}")
    return sum(name in _leaders(table, row) for row in range(len(table.columns["seq_len"])))


def _count(column: Any) -> float:
    values = np.asarray(column)
    return float(values.sum() if values.dtype == bool else (~np.isnan(values)).sum())


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "mean": lambda column: _kept(column).mean(),
    "geometric_mean": lambda column: np.exp(np.log(_kept(column)).mean()),
    "median": lambda column: np.median(_kept(column)),
    "min": lambda column: _kept(column).min(),
    "max": lambda column: _kept(column).max(),
    "count": _count,
    "all": lambda column: bool(np.all(column)),
    "any": lambda column: bool(np.any(column)),
}
_BINARY = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
_COMPARE = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


class _Walk(ast.NodeVisitor):
    """One method per kind of node that the language has."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.functions = scope.functions()

    def generic_visit(self, node: ast.AST) -> Any:
        raise ExpressionError(
            f"column {getattr(node, 'col_offset', 0) + 1}: {type(node).__name__} is not part of the language"
        )

    def visit_Constant(self, node: ast.Constant) -> Any:
        if isinstance(node.value, int | float) and not isinstance(node.value, bool):
            return float(node.value)
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> Any:
        return self._column(self.scope.table, node.id)

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        if not isinstance(node.value, ast.Name) or node.value.id not in self.scope.others:
            raise ExpressionError(
                f"no table {ast.unparse(node.value)}; there are: {', '.join(self.scope.others) or 'none'}"
            )
        return self._column(self.scope.others[node.value.id], node.attr)

    def visit_List(self, node: ast.List) -> Any:
        return [self.visit(item) for item in node.elts]

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        value = self.visit(node.operand)
        if isinstance(node.op, ast.Not):
            return not _truth(value)
        return -value if isinstance(node.op, ast.USub) else self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        if type(node.op) not in _BINARY:
            return self.generic_visit(node.op)
        with np.errstate(divide="ignore", invalid="ignore"):
            return _BINARY[type(node.op)](self.visit(node.left), self.visit(node.right))

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        values = [_truth(self.visit(value)) for value in node.values]
        return all(values) if isinstance(node.op, ast.And) else any(values)

    def visit_Compare(self, node: ast.Compare) -> Any:
        sides = [self.visit(side) for side in [node.left, *node.comparators]]
        results = []
        for left, kind, right in zip(sides, node.ops, sides[1:], strict=False):
            if type(kind) not in _COMPARE:
                return self.generic_visit(kind)
            results.append(_COMPARE[type(kind)](left, right))
        return results[0] if len(results) == 1 else all(_truth(result) for result in results)

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        column, rows = self.visit(node.value), np.asarray(self.visit(node.slice))
        if rows.dtype != bool or np.shape(column) != rows.shape:
            raise ExpressionError(f"column {node.col_offset + 1}: brackets take a condition on the column's own table")
        return column[rows]

    def visit_Call(self, node: ast.Call) -> Any:
        name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
        if name not in self.functions or node.keywords:
            raise ExpressionError(f"no function {name}; there are: {', '.join(sorted(self.functions))}")
        if name == "wins":  # the one function that takes a solution, not its column
            return self.functions[name](*(argument.id for argument in node.args if isinstance(argument, ast.Name)))
        return self.functions[name](*(self.visit(argument) for argument in node.args))

    @staticmethod
    def _column(table: PublishedTable, name: str) -> Floats:
        if name not in table.columns:
            raise ExpressionError(f"no column {name}; there are: {', '.join(table.columns)}")
        return table.columns[name]


def _truth(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise ExpressionError(
            "`and`, `or`, `not` and chained comparisons take single truth values; wrap columns in all() or any()"
        )
    return bool(value)
