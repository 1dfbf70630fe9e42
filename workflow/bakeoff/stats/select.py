"""Which solutions of a screening are worth a confirmation.

Entry point: `select`. The leading ones by geometric mean are taken; nothing is decided about them.
"""

from bakeoff.errors import InputError
from bakeoff.schema.analysis import Analysis
from bakeoff.schema.analysis_figures import Summary
from bakeoff.schema.selection import Selected, Selection


def select(screening: Analysis, digest: str, most: int) -> Selection:
    """The `most` fastest of the solutions that passed everywhere, anchors and twins apart. digest: of analysis.json.
    A run without times, or in which none qualifies, is an InputError."""
    people = {who.name: who for who in screening.participants if who.name not in screening.anchors and not who.twin_of}
    wrong = {one.solution for one in screening.verifications if one.passed < one.due}
    rows = [one for one in screening.summaries if one.solution in people]
    fit = [one for one in rows if _whole(one) and one.solution not in wrong]
    ordered = sorted(fit, key=lambda one: -one.geometric_mean.value if one.geometric_mean else 0.0)
    if not ordered:
        raise InputError(
            f"run {screening.run.id}",
            found="no solution that passed and has a time on every workload"
            if screening.performance_shown
            else f"backend {screening.run.backend}, whose times mean nothing",
            expected="a screening on a GPU from which some come through",
            hint="its report lists the failures by cause",
        )
    selected = [
        Selected(
            solution=one.solution,
            digest=str(people[one.solution].digest),
            rank=rank,
            geometric_mean=one.geometric_mean,
            blocks=one.blocks,
        )
        for rank, one in enumerate(ordered[:most], 1)
        if one.geometric_mean
    ]
    return Selection(
        run=screening.run.id,
        analysis=digest,
        screened=len(rows),
        unfit=len(rows) - len(fit),
        anchors=screening.anchors,
        selected=selected,
    )


def _whole(one: Summary) -> bool:
    return one.geometric_mean is not None and one.cells == one.passed == one.due
