"""explanations.yaml: what a published report says about causes, as tests on the profile of a run."""

from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from bakeoff.schema.base import Part
from bakeoff.schema.solution import Backend

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Text = Annotated[str, Field(min_length=1)]


class FigureRule(Part):
    """One number, or one number per workload, that a verdict rests on."""

    model_config = ConfigDict(populate_by_name=True)

    as_: Name = Field(alias="as")
    """What later figures and `holds` call it; a later figure of the same name replaces it."""
    name: Text | None = None
    """What it is called in the report; {workload} gives one number per workload, {SHORT NAME} a solution's name. Null
    for a step on the way to others."""
    over: Text | None = None
    """The workloads that it is about, as a condition on their seq_len and local_pairs; null for all."""
    backend: Backend | None = None
    """The only backend on which it is computed; null for every one."""
    value: Text
    """How it is computed from the profile."""


class ExplanationRule(Part):
    """One explanation. Either a profile tests it (`figures` and `holds`), or `needs` says what would."""

    id: Text
    """That of the claim whose place and text it has."""
    place: Text | None = None
    """Section of the report; null for the claim's."""
    text: Text | None = None
    """The explanation in the report's words; null for the claim's."""
    test: Text
    """What is compared with what, with every threshold."""
    figures: list[FigureRule] = Field(default_factory=list)
    """In the order in which they are computed."""
    holds: Text | None = None
    """When the explanation is right: true or false, from the figures."""
    backend: Backend | None = None
    """The only backend whose profile can test it; null for every one."""
    needs: Text | None = None
    """What would test it where this run's profile cannot, whatever it holds."""

    @model_validator(mode="after")
    def _testable_or_not(self) -> "ExplanationRule":
        if bool(self.figures) != (self.holds is not None):
            raise ValueError("`figures` and `holds` stand together, or neither of them")
        if (self.needs is None) != (self.holds is not None and self.backend is None):
            raise ValueError("`needs` stands exactly where there is no `holds`, or one for a single backend")
        return self


class Explanations(Part):
    """explanations.yaml of a published report."""

    names: dict[Name, Text]
    """Short name in expressions -> solution."""
    groups: dict[Name, Annotated[list[Name], Field(min_length=1)]] = Field(default_factory=dict)
    """Name -> short names of solutions that a test takes together, those of them that were profiled."""
    explanations: Annotated[list[ExplanationRule], Field(min_length=1)]
    """In the report's order."""

    @model_validator(mode="after")
    def _names_are_known(self) -> "Explanations":
        unknown = sorted({name for members in self.groups.values() for name in members} - set(self.names))
        if unknown:
            raise ValueError(f"groups hold short names of `names`, not {', '.join(unknown)}")
        ids = [one.id for one in self.explanations]
        if len(set(ids)) < len(ids):
            raise ValueError("ids are unique")
        return self
