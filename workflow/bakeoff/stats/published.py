"""A published table of speedups as the data of an analysis: one block, no times. Entry point: `load_published`."""

from pathlib import Path

from bakeoff.runs.published import read_published
from bakeoff.schema.analysis_run import AnalysedCell, Check, Fact, RunHeader
from bakeoff.schema.outcomes import Outcome
from bakeoff.schema.published import PublishedMeta
from bakeoff.stats.rundata import OtherRun, RunData

_SAME = (
    *("title", "backend", "hardware", "definition", "dataset", "protocol"),
    *("timeout_s", "rtol", "atol", "required_matched_ratio"),
)


def load_published(folder: Path) -> RunData:
    """Read a published folder; flaws of the files are InputErrors with file, line and column."""
    table = read_published(folder)
    meta, workloads = table.meta, table.workloads
    names = [who.name for who in meta.participants]
    outcome = Outcome.PASSED if meta.passed else Outcome.NOT_RUN
    return RunData(
        header=_header(meta, folder.name),
        participants=meta.participants,
        workloads=workloads,
        cells=[
            AnalysedCell(solution=name, workload=workload.id, outcome=outcome)
            for name in names
            for workload in workloads
        ],
        samples=table.samples,
        provenance=[*meta.environment, *(Fact(group="run", key="flaw", value=flaw) for flaw in meta.flaws)],
        checks=[
            Check(
                code="values_recorded",
                status="warning" if meta.unrecorded else "ok",
                found=len(meta.unrecorded),
                items=meta.unrecorded,
            )
        ],
        performance_shown=True,
        beside=[
            *(OtherRun(name, "repeat") for name in meta.repeats),
            *([OtherRun(meta.previous, "previous")] if meta.previous else []),
        ],
    )


def _header(meta: PublishedMeta, name: str) -> RunHeader:
    return RunHeader(
        kind="published",
        id=name,
        date=meta.date.isoformat(),
        blocks=1,
        **{name: getattr(meta, name) for name in _SAME},
    )
