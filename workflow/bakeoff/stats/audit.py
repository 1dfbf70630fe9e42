"""A published report, tested against its own table.

Entry points: `audit_report` (from files) and `judge` (one claim). The rule is docs/statistics.md, "Auditing a published
report".
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bakeoff.errors import InputError
from bakeoff.files import read_yaml
from bakeoff.runs.published import published_folder
from bakeoff.schema.analysis_outside import ClaimResult, ClaimVerdict, ReportAudit
from bakeoff.schema.claims import Claim, Claims
from bakeoff.stats.expressions import ExpressionError, PublishedTable, Scope, evaluate, uses_deviation
from bakeoff.stats.printed import Printed, parse
from bakeoff.stats.published import load_published
from bakeoff.stats.rundata import RunData

_ROW = re.compile(r"row\(\d+\)")  # a row of the table, as the report prints it


def audit_report(folder: Path, claims_file: Path) -> ReportAudit:
    """Audit the report of a published folder; a claim that does not fit the table or the language is an InputError."""
    claims = read_yaml(claims_file, Claims)
    table = _table(load_published(folder), claims.names, claims_file)
    others = {
        name: _table(load_published(published_folder(other)), claims.names, claims_file)
        for name, other in claims.tables.items()
    }
    results = [_judge_or_fail(claim, table, others, claims_file) for claim in claims.claims]
    fallen = {result.id for result in results if result.verdict is ClaimVerdict.CONTRADICTED}
    results = [
        result.model_copy(update={"changes": [name for name in claim.bears_on if {name, claim.id} <= fallen]})
        for claim, result in zip(claims.claims, results, strict=True)
    ]
    able = Counter("repeated" if result.repeats else result.kind for result in results)
    counts = Counter((result.verdict, result.other_table) for result in results if not result.repeats)
    return ReportAudit(
        report=claims.report,
        figures=able["figure"],
        repeated=able["repeated"],
        conclusions=able["conclusion"],
        confirmed=sum(counts[ClaimVerdict.CONFIRMED, other] for other in (True, False)),
        contradicted=counts[ClaimVerdict.CONTRADICTED, False],
        contradicted_by_others=counts[ClaimVerdict.CONTRADICTED, True],
        not_testable=sum(counts[ClaimVerdict.NOT_TESTABLE, other] for other in (True, False)),
        claims=results,
    )


def _table(data: RunData, names: dict[str, str], where: Path) -> PublishedTable:
    unknown = [column for column in names.values() if column not in data.samples.solutions]
    if unknown:
        raise InputError(
            f"{where}: field names",
            found=", ".join(unknown),
            expected=f"columns of {data.header.id}: {', '.join(data.samples.solutions)}",
            hint="correct the names, or the table",
        )
    # 10 digits: logarithms there and back must not make 31.15 of a printed 31.15 something else.
    speedups = np.array(
        [[float(f"{value:.10g}") for value in row] for row in np.exp(data.samples.log_speedup[:, :, 0])]
    )
    labels = {who.name: who.label for who in data.participants}
    columns = {short: speedups[data.samples.solutions.index(name)] for short, name in names.items()}
    sizes = [[workload.seq_len, np.nan if workload.offset is None else workload.offset] for workload in data.workloads]
    columns["seq_len"], columns["offset"] = np.array(sizes, dtype=float).T
    return PublishedTable(columns, {short: labels[name] for short, name in names.items()})


def _judge_or_fail(claim: Claim, table: PublishedTable, others: dict[str, PublishedTable], where: Path) -> ClaimResult:
    try:
        return judge(claim, table, others)
    except ExpressionError as error:
        raise InputError(
            f"{where}: claim {claim.id}",
            found=str(error),
            expected="an expression over the published table that fits the printed value",
            hint="correct the claim; the language is described in workflow/bakeoff/stats/expressions.py",
        ) from error


def judge(claim: Claim, table: PublishedTable, others: dict[str, PublishedTable] | None = None) -> ClaimResult:
    """Test one claim: CONFIRMED if any admissible reading fits its printed form. A figure about another table cannot be
    contradicted by it: which rows the report meant is not known."""
    printed = [claim.printed] if isinstance(claim.printed, str) else claim.printed or []
    forms = [parse(text) for text in printed]
    values = [
        evaluate(expression, Scope(table, others or {}, taken))
        for expression in claim.expressions
        for taken in ((1, 0) if uses_deviation(expression) else (1,))
    ]
    fits = [_fits(value, printed, forms) for value in values]
    elsewhere = any(f"{name}." in expression for name in others or {} for expression in claim.expressions)
    verdict, needs = ClaimVerdict.CONFIRMED if any(fits) else ClaimVerdict.CONTRADICTED, claim.needs
    if not values:
        verdict = ClaimVerdict.NOT_TESTABLE
    elif elsewhere and not any(fits) and claim.kind == "figure":
        verdict, needs = (
            ClaimVerdict.NOT_TESTABLE,
            "the rows of the other table that are meant, which the report does not say",
        )
    return ClaimResult(
        id=claim.id,
        place=claim.place,
        kind=claim.kind,
        text=claim.text,
        printed=", ".join(printed) or None,
        expression=" | ".join(claim.expressions) or None,
        verdict=verdict,
        computed=[_shown(value, forms) for value in values],
        tolerance=_tolerance(forms) if values else None,
        needs=needs,
        note=claim.note,
        repeats=all(map(_ROW.fullmatch, claim.expressions)) and bool(values),
        other_table=elsewhere,
    )


def _fits(value: Any, printed: Sequence[str], forms: Sequence[Printed | None]) -> bool:
    """Whether a recomputed value fits what is printed; a conclusion prints nothing and is a truth value."""
    if not printed:
        if not isinstance(value, bool):
            raise ExpressionError(f"a conclusion without a printed value is true or false, not {value!r}")
        return value
    return all(_fits_one(item, text, form) for item, text, form in _matched(value, printed, forms))


def _matched(
    value: Any, printed: Sequence[str], forms: Sequence[Printed | None]
) -> list[tuple[Any, str, Printed | None]]:
    """Pair values with printed forms: one to one, or all values with a single range or figure."""
    items = value if isinstance(value, list) else [value]
    if len(printed) == 1:
        out_of = forms[0].of if forms[0] else None
        if out_of is not None:  # "13/19": a count and what it is out of
            if len(items) != 2:
                raise ExpressionError(f"{printed[0]} is compared with [count, out of], not {value!r}")
            whole = parse(str(out_of))
            return [(items[0], printed[0], forms[0]), (items[1], str(out_of), whole)]
        return [(item, printed[0], forms[0]) for item in items]
    if len(items) != len(printed):
        raise ExpressionError(f"{len(items)} values, but {len(printed)} are printed")
    return list(zip(items, printed, forms, strict=True))


def _fits_one(item: Any, text: str, form: Printed | None) -> bool:
    if form is None:
        if not isinstance(item, str):
            raise ExpressionError(f"{text!r} is no figure, but the expression gives {item!r}")
        return item == text
    if isinstance(item, str | bool):
        raise ExpressionError(f"{text} is a number, the expression gives {item!r}")
    return form.allows(item)


def _shown(value: Any, forms: Sequence[Printed | None]) -> str:
    """A value as text; a count with what it is out of, and a long list as its least and greatest."""
    if isinstance(value, list) and forms and forms[0] and forms[0].of is not None:
        return "/".join(f"{item:g}" for item in value)
    if isinstance(value, list):
        forms = list(forms) if len(forms) == len(value) else [forms[0] if forms else None] * len(value)
        if len(value) > 4 and all(isinstance(item, float) for item in value):
            return f"{_shown(min(value), forms[:1])} to {_shown(max(value), forms[:1])}"
        return ", ".join(_shown(item, [form]) for item, form in zip(value, forms, strict=True))
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, float):
        return str(value)
    form = forms[0] if forms else None
    return form.show(value) if form and form.of is None else f"{value:g}"


def _tolerance(forms: Sequence[Printed | None]) -> str | None:
    """The tolerances of the printed forms, each once."""
    shown = list(dict.fromkeys("equal" if form is None else form.show_tolerance() for form in forms))
    return ", ".join(shown) or None
