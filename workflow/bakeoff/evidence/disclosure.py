"""DISCLOSURE.md of a submission: what a reader must know about where and how the run was made, from the run itself, and
the questions that only its owner can answer.

Entry points: `form` and `flaws`. The same run gives the same bytes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from bakeoff.evidence.contents import measured_period
from bakeoff.evidence.layout import refusal
from bakeoff.files import read_json
from bakeoff.planned import read_plan
from bakeoff.runs.table import Journals
from bakeoff.schema.evidence import Ground, Refusal
from bakeoff.schema.host import Host
from bakeoff.schema.sample import Record
from bakeoff.stats import environment
from bakeoff.tables.text import markdown

FILE = "DISCLOSURE.md"
HEADING = "## For the owner of the host"
QUESTIONS = (
    "What cools the GPU, and who else used the host or the GPU during the run?",
    "Were clocks, power or fans set by hand, and how?",
    "What do you have to do with the authors of a solution that takes part?",
    "Was the run the first and only one, or which of how many is it?",
)
_STATE = {
    "sm_mhz": "SM clock, MHz",
    "memory_mhz": "memory clock, MHz",
    "celsius": "temperature, °C",
    "watts": "power, W",
}


def form(run: Path) -> str:
    """The form of a run, answers left empty; a damaged run is an InputError."""
    plan, host = read_plan(run), read_json(run / "host.json", Host)
    journals = Journals.read(run, plan)
    facts = [*environment.facts(host), *environment.plan_facts(plan)]
    told = [(f"{one.group}: {one.key}", _value(one.value, one.unit)) for one in facts]
    sources = [(who.name, who.role, str(who.digest)) for who in plan.participants]
    return "\n".join(
        [
            f"# Disclosure: {plan.title}",
            "",
            "Made by `bakeoff verify --submission DIR --disclosure DIR/DISCLOSURE.md` from the run itself; only the "
            "answers are written by hand.",
            "",
            *_table(("where and with what", "value"), told),
            *_table(("what was measured", "value"), _measured(run, journals)),
            *_table(("source", "role", "sha256"), sources),
            HEADING,
            "",
            *(line for question in QUESTIONS for line in (f"**{question}**", "", "")),
        ]
    )


def flaws(run: Path) -> Iterator[Refusal]:
    """What of the submission's form, if it has one, is not what the run gives, or not answered."""
    path = run / FILE
    if not path.is_file():
        return
    made, there = form(run).partition(HEADING)[0], path.read_text(encoding="utf-8", errors="replace")
    fix = f"`bakeoff verify --submission DIR --disclosure DIR/{FILE}`, then answer the questions"
    if not there.startswith(made):
        yield refusal(Ground.DISCLOSURE, FILE, "another text than the run gives", "the generated form", fix)
        return
    for question in QUESTIONS:
        answer = there.partition(f"**{question}**")[2].partition("**")[0].strip()
        if not answer:
            yield refusal(Ground.DISCLOSURE, FILE, f"no answer to {question!r}", "an answer to each question", fix)


def _measured(run: Path, journals: Journals) -> Iterator[tuple[str, str]]:
    plan, records = journals.plan, journals.records
    started, ended = measured_period(run, plan)
    yield "from", started
    yield "to", ended
    yield "blocks", str(plan.blocks)
    yield "protocols", ", ".join(plan.protocols)
    yield "workloads", f"{len(plan.workloads)}, {plan.dataset} routing"
    yield "samples by outcome", ", ".join(f"{name} {count}" for name, count in sorted(_counts(records).items()))
    yield "calls thrown away as disturbed", str(sum(one.discarded for one in records))
    for key, what in _STATE.items():
        values = [value for one in records for value in ((one.gpu_state or {}).get(key) or {}).values()]
        yield what, f"{min(values):.0f} to {max(values):.0f}" if values else "not told"
    reasons = sorted({str(reason) for one in records for reason in (one.gpu_state or {}).get("reasons", [])})
    yield "clock event reasons", ", ".join(reasons) or "none"


def _counts(records: Iterable[Record]) -> Counter[str]:
    return Counter(str(one.outcome) for one in records)


def _value(value: object, unit: str | None) -> str:
    return "not told" if value is None else f"{value} {unit}" if unit else str(value)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [markdown(head, ([cell.replace("|", "/") for cell in row] for row in rows)), ""]
