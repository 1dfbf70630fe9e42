"""What is said about a run from outside: a judgement of a run that somebody else made, and the in-toto statement that
binds a run's bytes to what they were made with."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from bakeoff.schema.base import Part, Said
from bakeoff.schema.solution import Backend

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Ground(StrEnum):
    """Why a submission is refused."""

    FILES = "FILES"  # a file that no run has, a link, an odd name, too large: nothing was read
    UNREADABLE = "UNREADABLE"  # a document that is none
    PLAN = "PLAN"  # config.json contradicts itself, or this checkout's benchmark
    INCOMPLETE = "INCOMPLETE"  # a block, journal, manifest or cell is missing
    TAMPERED = "TAMPERED"  # samples, or what follows from them, are not as they were measured
    FOREIGN = "FOREIGN"  # a journal line of another cell, participant or block
    GATES = "GATES"  # PASSED against this checkout's bounds, or a wrong reference
    HOST = "HOST"  # not the host, or not the one GPU, that the run says
    DISCLOSURE = "DISCLOSURE"  # something that a figure depends on is not told
    IMAGE = "IMAGE"  # not the image that is locked
    IMPLAUSIBLE = "IMPLAUSIBLE"  # times that cannot be


class Refusal(Part):
    """One reason why a submission is not taken."""

    ground: Ground
    where: Said
    """File, line or field, relative to the submission."""
    found: Said
    expected: Said
    fix: Said


class SubmissionJudgement(Part):
    """What `bakeoff verify --submission` says of a run that somebody else made."""

    schema_: Literal["bakeoff/judgement/1"] = Field("bakeoff/judgement/1", alias="schema")
    accepted: bool
    """Whether there is no refusal."""
    comparable: bool
    """Whether its figures may stand beside those that this checkout measures."""
    refusals: list[Refusal] = Field(default_factory=list)
    not_comparable: list[Said] = Field(default_factory=list)
    """What differs from this checkout, or is too little for verdicts."""
    caveats: list[Said] = Field(default_factory=list)
    """What a reader should know; no reason to refuse."""
    summary: Said | None = None
    """What was measured, in a line; null where nothing could be read."""


@dataclass(frozen=True)
class Subject:
    """A file of the run."""

    name: str
    """Path in the run's folder; a journal's without `.gz`, since its bytes are the uncompressed ones."""
    digest: dict[Literal["sha256"], Sha256]


class Measurement(Part):
    """The predicate: with what, where and when the subjects were made."""

    run: str
    backend: Backend
    commit: str | None
    """Commit of the checkout that measured; null where the run does not record it."""
    image: str | None
    """Digest of the container image; null: no container."""
    locks: dict[str, Sha256]
    """Hash-locked package lists of the checkout that attests, for the run's backend, by path."""
    plan: Sha256
    """config.json."""
    host: Sha256
    """host.json."""
    analysis: Sha256 | None
    """analysis.json; null where the run has none."""
    harness: str
    """Digest of the code that decides a sample."""
    hardware: str
    started: str
    """First sample, ISO 8601, UTC."""
    ended: str
    """End of the last sample, ISO 8601, UTC."""


class Statement(Part):
    """in-toto Statement v1 over a run's files."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field("https://in-toto.io/Statement/v1", alias="_type")
    subject: list[Subject] = Field(min_length=1)
    predicate_type: Literal["urn:bakeoff:measurement:1"] = Field("urn:bakeoff:measurement:1", alias="predicateType")
    predicate: Measurement
