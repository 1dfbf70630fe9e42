"""The tables of speed: matrix, published form, summaries, timing protocols, latencies and floors."""

from collections.abc import Callable
from dataclasses import replace

from bakeoff.report.view import Person, RunView, workload_columns
from bakeoff.schema.analysis_figures import ProtocolSummary, Winner
from bakeoff.schema.base import Estimate
from bakeoff.tables import formats as f
from bakeoff.tables import shared, words
from bakeoff.tables.table import Column, Row, Table, flat, frame, frame_of, number, without_nan

LARGE = 901  # tokens from which clock and power stand beside a cell


def estimate_text(estimate: Estimate | None, digits: int = 2) -> str:
    """The interval of an estimate as a note; nothing where there is none."""
    return "" if estimate is None or estimate.low is None else f.interval(estimate.low, estimate.high, digits)


def matrix(view: RunView) -> Table:
    """Workloads × solutions with interval, the leader, its lead, and what the lead rests on; twins in the CSV alone."""
    ranked = len(view.contestants) > 1
    peers = any(winner.fastest != winner.leader for winner in view.a.winners)
    columns = [
        *workload_columns("offset"),
        *(_value_column(view, person, ranked=ranked) for person in view.people),
        view.who("leader", "Leader" if ranked else "", note=lambda row: row["support_text"]),
        number("lead", "Over the second" if ranked else "", _change, interval=True, note=_change_ends),
        Column("support"),
        Column("undecided_against", export=" ".join),
        number("lead_blocks"),
        Column("lead_rests_on"),
        view.who("fastest", "Fastest of all" if peers else "", marked=False),
    ]
    cells = view.wide("speedup", "speedup_low", "speedup_high", "outcome", "reason", "blocks")
    found = frame(_lead(view, view.winners.get(w.id)) for w in view.a.workloads)
    return Table("matrix", cells.join(found), columns, key="workload")


def _lead(view: RunView, winner: Winner | None) -> Row:
    """What the matrix says of a workload's leader."""
    if winner is None or winner.leader is None:
        blank = dict.fromkeys(("leader", "lead", "lead_blocks", "fastest"))
        return {**blank, "support": "none", "undecided_against": [], "support_text": "", "lead_rests_on": ""}
    code = _support(winner)
    rivals = view.labels(
        winner.unmeasured
        if code == "unmeasured"
        else [name for name in winner.tied if (name in winner.same) == (code == "same")]
    )
    names = ", ".join(rivals[:2]) + (f" +{len(rivals) - 2}" if len(rivals) > 2 else "")
    text = f"{words.SUPPORT[code]} {names}".rstrip()
    row = flat(winner) | {"support": code, "undecided_against": winner.tied, "support_text": text}
    row["lead_blocks"] = row.pop("blocks")
    row["lead_rests_on"] = view.rests_on(winner.leader, winner.runner_up or "", winner.workload)
    return {key: value for key, value in row.items() if key != "workload"}


def _support(winner: Winner) -> str:
    """What a lead rests on. `same` only if the leader and all who are tied with it are shown to be within the
    margin."""
    if winner.verdict:
        return winner.verdict
    if winner.unmeasured:
        return "unmeasured"
    if winner.basis != "blocks" or not winner.tied:
        return "alone"
    return "same" if set(winner.tied) == set(winner.same) else "tied"


def _change(ratio: float) -> str:
    """A ratio as a change, "+3.1 %"."""
    return f.signed_percent(ratio - 1)


def _change_ends(row: Row) -> str:
    """The interval of a change, "+2.8 … +3.4 %"."""
    low, high = row.get("lead_low"), row.get("lead_high")
    ends = "" if low is None or high is None else f"{_change(low).removesuffix('%').rstrip()} … {_change(high)}"
    return ", ".join(filter(None, (ends, row["lead_rests_on"])))


def _value_column(view: RunView, person: Person, *, ranked: bool) -> Column:
    """A speedup with its interval; where there is none, the outcome and its reason."""
    name, source = person.name, f"{person.name}:speedup"
    value = shared.speedup(name, source=source)

    def text(row: Row) -> str:
        outcome = row[f"{name}:outcome"] or "NOT_RUN"
        return f.speedup(row[source]) if row[source] is not None else f.MISSING if outcome == "PASSED" else outcome

    def note(row: Row) -> str:
        if row[source] is None:
            return row[f"{name}:reason"] or ""
        blocks = row[f"{name}:blocks"]
        fewer = f.plural(blocks, "block") if blocks < view.block_counts[-1] else ""
        return ", ".join(filter(None, (value.ends(row), fewer)))

    def tone(row: Row) -> str:
        if row[source] is None:
            return "mute" if row[f"{name}:outcome"] in (None, "NOT_RUN", "UNSUPPORTED", "PASSED") else "bad"
        return ("win" if row["supported"] else "ahead") if ranked and row["leader"] == name else ""

    heading = "" if person.twin_of else person.heading
    return replace(value, heading=heading, interval=True, text=text, note=note, tone=tone, mark=person.index)


def published_matrix(view: RunView) -> Table:
    """The same values in the published table's exact form: "31.24x", the leader in bold, its contestants only."""
    sizes = view.a.findings.large_batch  # the published report sets large workloads in bold
    large = sizes.large if sizes else []

    def value(person: Person) -> Column:
        def tone(row: Row) -> str:
            return "mute" if row[source] is None else "strong" if person.name in row["winner"] else ""

        source = f"{person.name}:speedup"
        return number(person.name, person.label, f.published, source=source, tone=tone)

    columns = [
        number("number", "#", head=True),
        number("seq_len", "seq_len", tone=lambda row: "strong" if row["workload"] in large else ""),
        number("expert_offset", "expert_offset"),
        *map(value, view.published_contestants),
        Column(
            "winner",
            "Winner",
            lambda names: " = ".join(view.labels(names)) or f.MISSING,
            tone=lambda row: "" if row["winner"] else "mute",
            export=" = ".join,
        ),
    ]
    found = view.wide("speedup")
    found["winner"] = [_published_leaders(view, workload.id) for workload in view.a.workloads]
    return Table("published_form", found.assign(number=range(1, len(found) + 1)), columns)


def _published_leaders(view: RunView, workload: str) -> list[str]:
    """Who leads a workload among the published table's contestants; whoever prints the same value leads as well."""
    people, winner = view.published_contestants, view.winners.get(workload)
    if len(people) == len(view.contestants):
        return [winner.leader, *winner.level] if winner and winner.leader else []
    cells = {person.name: view.cells.get((person.name, workload)) for person in people}
    found = {name: one.speedup.value for name, one in cells.items() if one and one.speedup}
    return [name for name, value in found.items() if f.published(value) == f.published(max(found.values()))]


def published_summary(view: RunView) -> Table:
    """Average, median, least, greatest, both deviations and leads, one row each, as the published summary has them."""
    people = [person for person in view.published_contestants if person.name in view.summaries]
    led = [name for workload in view.a.workloads for name in _published_leaders(view, workload.id)]
    total = len(view.a.workloads)

    def written(metric: str, value: float | None) -> str:
        if metric == "leads":
            return f.MISSING if value is None else f"{value}/{total}"
        return f.percent(value) if metric.startswith("cv_") else f.published(value)

    def figures(person: Person) -> Column:
        at = f"{person.name}:figure"
        return number(person.name, person.label, source=at, text=lambda row: written(row["metric"], row[at]))

    rows = [
        {"metric": metric}
        | {f"{person.name}:figure": getattr(view.summaries[person.name], metric) for person in people}
        for metric in words.METRICS
    ]
    if len(people) < len(view.contestants):
        rows[list(words.METRICS).index("leads")] |= {person.name: led.count(person.name) for person in people}
    columns = [shared.worded("metric", "Metric", words.METRICS, head=True), *map(figures, people)]
    return Table("published_summary", frame(rows), columns)


def summary(view: RunView) -> Table:
    """One row per solution: cells, geometric mean with interval first, then the others by name."""
    people = [person for person in view.people if person.name in view.summaries]
    roles = {person.name: "" if person.role == "contestant" else words.ROLES[person.role] for person in people}
    columns = [
        view.who(head=True, note=lambda row: roles[row["solution"]]),
        shared.out_of("passed", "Passed", tone=lambda row: "" if row["passed"] == row["due"] else "bad"),
        Column("due"),
        shared.speedup("geometric_mean", "Geometric mean", interval=True),
        shared.speedup("busy_geometric_mean", "By busy time", interval=True),
        shared.duration("total_latency_us", "Sum of latencies"),
        shared.duration("mix_latency_us", "Mean of the mix" if any(s.mix_latency_us for s in view.a.summaries) else ""),
        shared.speedup("arithmetic_mean", "Arithmetic mean"),
        shared.speedup("median", "Median"),
        shared.speedup("minimum", "Least", note=lambda row: row["minimum_at"] or ""),
        shared.speedup("maximum", "Greatest", note=lambda row: row["maximum_at"] or ""),
        shared.speedup("std_sample", "Std dev"),
        shared.percent("cv_sample", "CV"),
        Column("std_population"),
        Column("cv_population"),
        number("leads", "Leads"),
        number("wins", "Wins"),
        number("clear_wins", "By ≥ 2 %"),
        number("blocks"),
        number("ties", "Ties"),
    ]
    return Table("summary", frame_of(view.summaries[person.name] for person in people), columns)


def selection(view: RunView) -> Table:
    """Of a run that confirms a screening: what each solution was selected by, and what fresh blocks say."""
    found = view.a.selection.selected if view.a.selection else []
    confirmed = {one.solution: one.geometric_mean for one in view.everyone.summaries}
    columns = [
        number("rank", "Place in the screening", head=True),
        view.who(),
        shared.speedup("screening", "Screening", interval=True),
        number("screening_blocks", "Blocks"),
        shared.speedup("confirmed", "Confirmed", interval=True),
    ]
    rows = [
        {"rank": one.rank, "solution": one.solution, "screening_blocks": one.blocks}
        | _ends("screening", one.geometric_mean)
        | _ends("confirmed", confirmed.get(one.solution))
        for one in found
    ]
    return Table("selection", frame(rows), columns)


def _ends(key: str, estimate: Estimate | None) -> dict[str, float | None]:
    ends = {"": "value", "_low": "low", "_high": "high"}
    return {key + end: getattr(estimate, field) if estimate else None for end, field in ends.items()}


def protocols(view: RunView) -> Table:
    """Geometric mean of speedups and leads under each protocol that the reference was timed under, where that is more
    than one."""
    first = ProtocolSummary(protocol=view.a.run.protocol or "", summaries=view.a.summaries)
    others = [one for one in view.a.other_protocols if any(found.geometric_mean for found in one.summaries)]
    rows: dict[str, dict[str, object]] = {person.name: {"solution": person.name} for person in view.people}
    columns = [view.who(head=True)]
    for one in [first, *others]:
        columns += [shared.speedup(one.protocol, one.protocol, interval=True), Column(f"{one.protocol}_leads")]
        for found in one.summaries:
            ends = {key.removeprefix("geometric_mean"): value for key, value in flat(found).items()}
            rows[found.solution] |= {one.protocol + key: ends.get(key) for key in ("", "_low", "_high")}
            rows[found.solution][f"{one.protocol}_leads"] = found.leads
    return Table("protocols", frame(rows.values() if others else ()), columns)


def orders(view: RunView) -> Table:
    """Every solution's time over the fastest's under each protocol, with its place where that is another one than under
    the first protocol on the same workloads."""

    def moved(protocol: str) -> Callable[[Row], str]:
        def note(row: Row) -> str:
            now, before = row[f"{protocol}_rank"], row[f"{protocol}_first_rank"]
            return "" if now in (None, before) else f"{now} instead of {before}"

        return note

    columns, found = [view.who(head=True)], frame({"solution": person.name} for person in view.people)
    for one in view.a.other_protocols:
        name, keys = one.protocol, [f"{one.protocol}_{key}" for key in ("rank", "first", "first_rank")]
        columns += [number(name, name, f.speedup, note=moved(name)), *map(Column, keys)]
        if one.order:
            both = frame_of(one.order).merge(frame_of(one.first_order), on="solution")
            found = found.merge(both.set_axis(["solution", name, *keys], axis=1), how="left", on="solution")
        else:
            found = found.assign(**dict.fromkeys([name, *keys]))
    ranked = found.iloc[:, 1:].notna().any(axis=1)
    return Table("orders", without_nan(found[ranked]), columns)


def overtakings(view: RunView) -> Table:
    """Pairs of solutions that change places under another protocol, with the workloads where they do."""
    under = view.a.other_protocols
    found = frame({"protocol": one.protocol, **flat(pair)} for one in under for pair in one.overtakings)
    if len(found):
        pairs = found.groupby(["protocol", "faster", "slower"], sort=False, as_index=False)
        found = pairs.agg(workloads=("workload", list), least=("ratio", "min"), most=("ratio", "max"))
    columns = [
        Column("protocol", "Protocol"),
        view.who("faster", "Faster there"),
        view.who("slower", f"Faster under {view.a.run.protocol}"),
        Column("workloads", "Workloads", _some, export=" ".join),
        number("least", "By, least", _change),
        number("most", "By, most", _change),
    ]
    return Table("overtakings", found, columns)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def _whole(value: float | None) -> str:
    return f.fixed(value, 0)


def loads(view: RunView) -> Table:
    """Latency, SM clock and power during the timed calls of large cells, under each protocol that took long enough to
    see them."""
    large = {w.id for w in view.a.workloads if w.seq_len >= LARGE}
    rows = [
        {"protocol": one.protocol, **flat(cell)}
        for one in view.a.other_protocols
        for cell in one.cells
        if cell.workload in large and cell.watts is not None
    ]
    columns = [
        Column("workload", "Workload"),
        view.who(),
        Column("protocol", "Protocol"),
        shared.duration("latency_us", "Latency", interval=True),
        number("sm_mhz", "SM clock, MHz", _whole),
        number("watts", "Power, W", _whole),
        shared.duration("first_us", f"Latency, {view.a.run.protocol}", interval=True),
        number("first_sm_mhz", "SM clock, MHz", _whole),
        number("first_watts", "Power, W", _whole),
    ]
    return Table("loads", frame(rows), columns)


def protocols_agree(view: RunView) -> bool:
    """Whether the solutions stand in the same order under every protocol."""
    return all(
        [each.solution for each in one.order] == [each.solution for each in one.first_order]
        for one in view.a.other_protocols
    )


def latencies(view: RunView) -> Table:
    """Latency of every cell and of the reference, each as a share of the floor that the workload's own routing sets."""

    def latency(person: Person) -> Column:
        def note(row: Row) -> str:
            share, host = row[f"{person.name}:floor_share"], row[f"{person.name}:host_us"]
            parts = [None if share is None else f.percent(share), None if host is None else f"host {f.duration(host)}"]
            return ", ".join(part for part in parts if part)

        column = shared.duration(f"{person.name}_us", person.heading, source=f"{person.name}:latency_us", interval=True)
        return replace(column, mark=person.index, note=note)

    columns = [
        *workload_columns(),
        shared.duration("floor_us", "Floor, time", note=lambda row: words.BOUNDS.get(row["floor_bound"], "")),
        shared.duration("reference_us", "Reference"),
    ]
    for person in view.people:
        keys = ("floor_share", "host_us", "busy_speedup")
        columns += [latency(person), *(Column(f"{person.name}_{key}", source=f"{person.name}:{key}") for key in keys)]
    values = view.wide("latency_us", "latency_us_low", "latency_us_high", "floor_share", "host_us", "busy_speedup")
    return Table("latencies", values, columns, "workload")
