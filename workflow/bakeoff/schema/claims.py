"""claims.yaml: the figures and conclusions of a published report, as data. A pure data model, the source of
workflow/schemas/claims."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from bakeoff.schema.base import Part

Text = Annotated[str, Field(min_length=1)]


class Claim(Part):
    """One figure or conclusion. Either it is recomputed (`expression`) or it says what would test it (`needs`)."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    """Unique; lower case, digits, dots and dashes."""
    place: Text
    """Section of the report."""
    kind: Literal["figure", "conclusion"]
    """`figure`: a printed number or name; `conclusion`: a statement that is true or not."""
    text: Text
    """The claim in the report's words."""
    printed: Text | Annotated[list[Text], Field(min_length=1)] | None = None
    """The printed value exactly as it stands, or several that belong together; its digits and "~" set the tolerance."""
    expression: Text | Annotated[list[Text], Field(min_length=1)] | None = None
    """How it is recomputed from the table (workflow/bakeoff/stats/expressions.py); several are admissible readings of
    an unclear text."""
    needs: Text | None = None
    """What would test it, where the table cannot."""
    bears_on: list[Text] = Field(default_factory=list)
    """Ids of the report's conclusions that rest on it."""
    note: Text | None = None
    """What a reader must know about this claim."""

    @model_validator(mode="after")
    def _check(self) -> "Claim":
        if (self.expression is None) == (self.needs is None):
            raise ValueError("a claim has either `expression` (it can be recomputed) or `needs` (what would test it)")
        if self.printed is not None and self.expression is None and self.kind == "conclusion":
            raise ValueError("a conclusion that cannot be recomputed has no `printed` value")
        if self.kind == "figure" and self.printed is None:
            raise ValueError("a figure has a `printed` value")
        return self

    @property
    def expressions(self) -> list[str]:
        """The admissible readings."""
        if self.expression is None:
            return []
        return [self.expression] if isinstance(self.expression, str) else self.expression


class Claims(Part):
    """claims.yaml of a published report."""

    report: Text
    """Title of the report."""
    names: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Text]
    """Short name in expressions -> column of speedups.csv, in the report's order."""
    tables: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Text] = Field(default_factory=dict)
    """Other published tables that expressions may use: name -> folder of results/published/."""
    claims: Annotated[list[Claim], Field(min_length=1)]
    """In the report's order."""

    @model_validator(mode="after")
    def _check(self) -> "Claims":
        ids = [claim.id for claim in self.claims]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            raise ValueError(f"ids are unique, but these stand twice: {', '.join(twice)}")
        unknown = sorted({name for claim in self.claims for name in claim.bears_on} - set(ids))
        if unknown:
            raise ValueError(f"`bears_on` holds ids of claims, not {', '.join(unknown)}")
        return self
