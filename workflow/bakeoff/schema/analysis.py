"""The analysis document, analysis.json: everything that a report shows, as facts without wording.

Entry point: `Analysis`. Conventions, the same in every part:
- times are in microseconds; shares, deviations and effects are ratios (0.03 is 3 %), except where a field says percent;
- a comparison "a against b" is a speed ratio, b's time over a's: above 1 means that a is faster;
- null is "there is none" (not measured, not applicable, too few blocks), never zero; NaN and infinity are refused;
- lists keep the order of the run's configuration (participants, workloads), so that equal runs give equal bytes;
- nothing here holds a time stamp or names the machine that analysed.
"""

from typing import Any, Literal

from pydantic import Field

from bakeoff.files import canonical_json
from bakeoff.schema.analysis_figures import Pair, ProfileCurve, ProtocolSummary, RankStability, Summary, Winner
from bakeoff.schema.analysis_findings import Findings
from bakeoff.schema.analysis_outside import Comparison, ReportAudit
from bakeoff.schema.analysis_run import (
    AnalysedCell,
    AnalysedWorkload,
    Build,
    Check,
    Fact,
    RunHeader,
    VerificationSummary,
)
from bakeoff.schema.base import Part
from bakeoff.schema.gates import GatePower
from bakeoff.schema.plan import Participant
from bakeoff.schema.profile import ProfileSection
from bakeoff.schema.selection import Selection

# Of a figure in a document: more than any clock gives, fewer than differ between mathematics libraries.
DIGITS = 10


class Analysis(Part):
    """analysis.json."""

    schema_: Literal["bakeoff/analysis/1"] = Field("bakeoff/analysis/1", alias="schema")
    """Format and version of this document."""
    inputs: dict[str, str] = Field(default_factory=dict)
    """File of the analysed folder: sha256 of its bytes, a journal's uncompressed; of further runs after RUN/."""
    run: RunHeader
    """What was run."""
    performance_shown: bool
    """False on the cpu backend, whose times mean nothing: latencies, speedups and all that rests on them are then null
    or empty."""
    validity: list[Check]
    """What makes this run valid or not."""
    provenance: list[Fact]
    """Recorded facts about host, GPU, software and inputs."""
    participants: list[Participant]
    """Solutions in the run's order."""
    shown: list[str] = Field(default_factory=list)
    """Of many solutions those that a page shows, in the run's order: the leading ones, those that all are compared
    with, and their twins. Empty where a page shows all."""
    anchors: list[str] = Field(default_factory=list)
    """Solutions that all others are compared with, where these are many or selected."""
    selection: Selection | None = None
    """The screening whose leading solutions this run confirms, with the figures there; null for any other run."""
    workloads: list[AnalysedWorkload]
    """In ascending seq_len."""
    cells: list[AnalysedCell]
    """Every (solution, workload), by solution, then workload."""
    verifications: list[VerificationSummary] = Field(default_factory=list)
    """By solution, family, seed, the timed values included."""
    summaries: list[Summary]
    """One per solution."""
    other_protocols: list[ProtocolSummary] = Field(default_factory=list)
    """The run's other timing protocols, in its order; empty if performance is not shown."""
    winners: list[Winner] = Field(default_factory=list)
    """One per workload; empty if performance is not shown."""
    pairs: list[Pair] = Field(default_factory=list)
    """Every two solutions; empty if performance is not shown."""
    rank_stability: RankStability | None = None
    """Null with fewer than two contestants that have values."""
    profile: list[ProfileCurve] = Field(default_factory=list)
    """Performance profile, one curve per solution."""
    findings: Findings = Field(default_factory=Findings)
    """Facts for the key findings."""
    gate_power: GatePower | None = None
    """Null if the mutants were not run."""
    builds: list[Build] = Field(default_factory=list)
    """What was compiled, by solution and architecture; empty for a published table."""
    profiles: ProfileSection | None = None
    """Where the GPU time goes, and the published explanations tested with it; null if the run was not profiled."""
    audit: ReportAudit | None = None
    """Only for a published report with claims."""
    comparisons: list[Comparison] = Field(default_factory=list)
    """Against the published run and, if given, against earlier runs."""


def document_bytes(analysis: Analysis) -> bytes:
    """analysis.json: sorted keys, one line per list entry of the document, numbers rounded to 10 significant digits."""
    document = _rounded(analysis.model_dump(mode="json", by_alias=True))
    return b"{\n" + b",\n".join(_member(key, document[key]) for key in sorted(document)) + b"\n}\n"


def _member(key: str, value: Any) -> bytes:
    name = canonical_json(key) + b": "
    if not isinstance(value, list) or not value:
        return name + canonical_json(value)
    return name + b"[\n" + b",\n".join(map(canonical_json, value)) + b"\n]"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
