"""The tables of speed: matrix, published form, summaries, latencies and floors."""

from __future__ import annotations

from dataclasses import replace

from bakeoff.report import formats as f
from bakeoff.report.tables import Cell, Column, Table, cell
from bakeoff.report.view import Person, View
from bakeoff.schema.analysis import Estimate, Winner, Workload

# The published report sets the two prefill-size workloads in bold.
LARGE_SEQ_LEN = 10_000


def workload_columns() -> list[Column]:
    return [
        Column("workload", shown=False),
        Column("seq_len", numeric=True, head=True),
        Column("expert_offset", numeric=True),
    ]


def workload_cells(workload: Workload) -> list[Cell]:
    return [cell(workload.id), cell(workload.seq_len, f.count(workload.seq_len)), cell(workload.offset)]


def people_columns(people: list[Person], suffix: str = "") -> list[Column]:
    return [Column(f"{person.name}{suffix}", person.label, numeric=True, mark=person.index) for person in people]


def estimate_text(estimate: Estimate | None, digits: int = 2) -> str:
    """The interval of an estimate as a note; nothing where there is none."""
    return "" if estimate is None or estimate.low is None else f.interval(estimate.low, estimate.high, digits)


def ratio_change(estimate: Estimate) -> tuple[str, str]:
    """A ratio as a change, "+3.1 %", and its interval, "+2.8 % to +3.4 %"."""
    if estimate.low is None or estimate.high is None:
        return f.signed_percent(estimate.value - 1), ""
    low, high = (f.signed_percent(end - 1) for end in (estimate.low, estimate.high))
    return f.signed_percent(estimate.value - 1), f"{low.removesuffix('%').rstrip()} … {high}"


def matrix(view: View) -> Table:
    """Workloads × solutions with interval, the leader, its lead, and what the lead rests on; twins in the CSV alone."""
    columns = [*workload_columns()]
    for person in view.people:
        columns += [
            *[replace(column, shown=person.twin_of is None) for column in people_columns([person])],
            Column(f"{person.name}_low", shown=False),
            Column(f"{person.name}_high", shown=False),
        ]
    ranked = len(view.contestants) > 1
    columns += [
        Column("leader", shown=ranked),
        Column("lead", numeric=True, shown=ranked),
        Column("lead_low", shown=False),
        Column("lead_high", shown=False),
        Column("support", shown=False),
        Column("undecided_against", shown=False),
    ]
    return Table("matrix", columns, [_matrix_row(view, workload) for workload in view.a.workloads])


def _matrix_row(view: View, workload: Workload) -> list[Cell]:
    winner = view.winners.get(workload.id)
    row = workload_cells(workload)
    for person in view.people:
        tone = ""
        if winner and winner.leader == person.name and len(view.contestants) > 1:
            tone = "win" if winner.supported else "ahead"
        row += value_cells(view, person, workload.id, tone)
    if winner is None or winner.leader is None:
        return [*row, cell(None), *[cell(None)] * 3, cell("none"), cell("")]
    code = _support(winner)
    rivals = view.labels([name for name in winner.tied if (name in winner.same) == (code == "same")])
    names = ", ".join(rivals[:2]) + (f" +{len(rivals) - 2}" if len(rivals) > 2 else "")
    word = f"{view.word('support', code)} {names}".rstrip()
    lead, interval = ratio_change(winner.lead) if winner.lead else (f.MISSING, "")
    return [
        *row,
        cell(winner.leader, view.label(winner.leader), mark=view.by_name[winner.leader].index, note=word),
        cell(winner.lead.value if winner.lead else None, lead, note=interval),
        cell(winner.lead.low if winner.lead else None),
        cell(winner.lead.high if winner.lead else None),
        cell(code),
        cell(" ".join(winner.tied)),
    ]


def _support(winner: Winner) -> str:
    """What a lead rests on. `same` only if the leader and all who are tied with it are shown to be within the
    margin."""
    if winner.supported:
        return "supported"
    if winner.basis != "blocks" or not winner.tied:
        return "alone"
    return "same" if set(winner.tied) == set(winner.same) else "tied"


def value_cells(view: View, person: Person, workload: str, tone: str) -> list[Cell]:
    """A speedup with its interval; where there is none, the outcome and its reason."""
    found = view.cells.get((person.name, workload))
    if found is not None and found.speedup is not None:
        value = found.speedup
        fewer = f.plural(found.blocks, "block") if found.blocks < view.block_counts[-1] else ""
        note = ", ".join(filter(None, (estimate_text(value), fewer)))
        return [
            cell(value.value, f.speedup(value.value), note=note, tone=tone),
            cell(value.low),
            cell(value.high),
        ]
    outcome = "NOT_RUN" if found is None else found.outcome
    tone = "mute" if outcome in ("NOT_RUN", "UNSUPPORTED", "PASSED") else "bad"
    text = f.MISSING if outcome == "PASSED" else outcome
    return [cell(None, text, note=(found.reason or "") if found else "", tone=tone), cell(None), cell(None)]


def published_matrix(view: View) -> Table:
    """The same values in the published table's exact form: "31.24x", the leader in bold, contestants only."""
    people = view.contestants
    columns = [
        Column("number", numeric=True, head=True),
        Column("seq_len", numeric=True),
        Column("expert_offset", numeric=True),
    ]
    columns += [Column(person.name, person.label, numeric=True) for person in people] + [Column("winner")]
    rows = []
    for number, workload in enumerate(view.a.workloads, 1):
        winner = view.winners.get(workload.id)
        leaders = [winner.leader, *winner.level] if winner and winner.leader else []
        row = [
            cell(number),
            cell(workload.seq_len, tone="strong" if workload.seq_len >= LARGE_SEQ_LEN else ""),
            cell(workload.offset),
        ]
        for person in people:
            value = view.speedup(person.name, workload.id)
            row.append(
                cell(value.value, f.published(value.value), tone="strong" if person.name in leaders else "")
                if value
                else cell(None)
            )
        rows.append([*row, cell(" = ".join(leaders), " = ".join(view.labels(leaders))) if leaders else cell(None)])
    return Table("published_form", columns, rows)


def published_summary(view: View) -> Table:
    """Average, median, least, greatest, both deviations and leads, one row each, as the published summary has them."""
    people = [person for person in view.contestants if person.name in view.summaries]
    columns = [Column("metric", head=True), *[Column(person.name, person.label, numeric=True) for person in people]]
    metrics = ("arithmetic_mean", "median", "minimum", "maximum", "std_sample", "std_population")
    rows = [
        [cell(metric, view.word("metrics", metric)), *[_times(getattr(view.summaries[p.name], metric)) for p in people]]
        for metric in metrics
    ]
    rows += [
        [
            cell(metric, view.word("metrics", metric)),
            *[_percent(getattr(view.summaries[p.name], metric)) for p in people],
        ]
        for metric in ("cv_sample", "cv_population")
    ]
    leads = [view.summaries[person.name].leads for person in people]
    total = len(view.a.workloads)
    rows.append(
        [
            cell("leads", view.word("metrics", "leads")),
            *[cell(n, f.MISSING if n is None else f"{n}/{total}") for n in leads],
        ]
    )
    return Table("published_summary", columns, rows)


def _times(value: float | None) -> Cell:
    return cell(value, f.published(value)) if value is not None else cell(None)


def _percent(value: float | None) -> Cell:
    return cell(value, f.percent(value)) if value is not None else cell(None)


def summary(view: View) -> Table:
    """One row per solution: cells, geometric mean with interval first, then the others by name."""
    columns = [
        Column("solution", head=True),
        Column("passed", numeric=True),
        Column("due", shown=False),
        Column("geometric_mean", numeric=True),
        Column("geometric_mean_low", shown=False),
        Column("geometric_mean_high", shown=False),
        *[
            Column(key, numeric=True)
            for key in ("arithmetic_mean", "median", "minimum", "maximum", "std_sample", "cv_sample")
        ],
        Column("std_population", shown=False),
        Column("cv_population", shown=False),
        Column("leads", numeric=True),
        Column("wins", numeric=True),
        Column("ties", numeric=True),
    ]
    rows = []
    for person in view.people:
        s = view.summaries.get(person.name)
        if s is None:
            continue
        mean = s.geometric_mean
        rows.append(
            [
                cell(
                    person.name,
                    person.label,
                    mark=person.index,
                    note="" if person.role == "contestant" else view.word("roles", person.role),
                ),
                cell(s.passed, f"{s.passed}/{s.due}", tone="" if s.passed == s.due else "bad"),
                cell(s.due),
                *(
                    [cell(mean.value, f.speedup(mean.value), note=estimate_text(mean)), cell(mean.low), cell(mean.high)]
                    if mean
                    else [cell(None)] * 3
                ),
                _speedup(s.arithmetic_mean),
                _speedup(s.median),
                _speedup(s.minimum, s.minimum_at or ""),
                _speedup(s.maximum, s.maximum_at or ""),
                _speedup(s.std_sample),
                _percent(s.cv_sample),
                cell(s.std_population),
                cell(s.cv_population),
                cell(s.leads),
                cell(s.wins),
                cell(s.ties),
            ]
        )
    return Table("summary", columns, rows)


def _speedup(value: float | None, note: str = "") -> Cell:
    return cell(value, f.speedup(value), note=note) if value is not None else cell(None)


def latencies(view: View) -> Table:
    """Latency of every cell and of the reference, each as a share of the floor that the workload's own routing sets."""
    columns = [*workload_columns(), Column("floor_us", numeric=True), Column("reference_us", numeric=True)]
    for person in view.people:
        columns += people_columns([person], "_us")
        columns += [Column(f"{person.name}_{key}", shown=False) for key in ("us_low", "us_high", "floor_share")]
    return Table("latencies", columns, [_latency_row(view, workload) for workload in view.a.workloads])


def _latency_row(view: View, workload: Workload) -> list[Cell]:
    floor, reference = workload.floor, workload.reference_us
    bound = view.word("bounds", floor.bound) if floor and floor.bound else ""
    row = [
        *workload_cells(workload),
        cell(floor.us, f.duration(floor.us), note=bound) if floor else cell(None),
        cell(reference.value, f.duration(reference.value)) if reference else cell(None),
    ]
    for person in view.people:
        found = view.cells.get((person.name, workload.id))
        latency, share = (found.latency_us, found.floor_share) if found else (None, None)
        if latency is None:
            row += [cell(None)] * 4
            continue
        note = "" if share is None else f.percent(share)
        row += [
            cell(latency.value, f.duration(latency.value), note=note),
            cell(latency.low),
            cell(latency.high),
            cell(share),
        ]
    return row
