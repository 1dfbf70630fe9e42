"""The profile of one solution while it is collected: what it has, what it owes, and taking a process's captures in.

Entry point: `Collection`. Writes profile/<solution>.json. A cell counts as long as its key holds, which covers the
solution, the workload, the host and the code that captures and reads.
"""

import functools
import statistics
from collections.abc import Sequence

from bakeoff import closure
from bakeoff.errors import InputError
from bakeoff.files import canonical_json, pretty_json, read_json, sha256_bytes, write_atomic
from bakeoff.profile import cupti, ncu, nsys
from bakeoff.profile.process import Piece, Target, progress
from bakeoff.profile.stages import cell_profile, keep_counters, with_counters
from bakeoff.profile.tiers import Name, Tier
from bakeoff.profile.timeline import calls
from bakeoff.schema.plan import Participant, Plan
from bakeoff.schema.profile import Ceilings, HostTime, SolutionProfile

# What decides what a cell's profile says: the profiled process, and what reads the captures.
DECIDES_A_PROFILE = tuple(
    f"bakeoff.profile.{module}" for module in ("child", "cupti", "ncu", "nsys", "process", "stages", "timeline")
)


class Collection:
    """One solution's cells and failures."""

    def __init__(self, target: Target, tiers: dict[Name, Tier], ceilings: Ceilings | None) -> None:
        self.target, self.plan, self.who = target, target.plan, target.who
        plan, who = target.plan, target.who
        self.path = target.run / "profile" / f"{who.name}.json"
        self._keys = {workload.id: _key(plan, who, workload.digest) for workload in plan.workloads}
        before = read_json(self.path, SolutionProfile) if self.path.is_file() else None
        self.ceilings = ceilings or (before.ceilings if before else None)
        cells, hosts = (before.cells, before.hosts) if before else ([], [])
        self.cells = {one.workload: one for one in cells if one.key == self._keys.get(one.workload)}
        self.hosts = {one.workload: one for one in hosts if one.key == self._keys.get(one.workload)}
        self.tools = dict(before.tools) if before else {}
        self.failures: dict[str, str] = {}
        self.missing: dict[str, str] = {name: tier.missing for name, tier in tiers.items() if tier.missing}
        self._given_up: set[tuple[Name, str]] = set()

    def pending(self, tier: Name, due: Sequence[str]) -> list[str]:
        """Workloads that a tier still owes, but for those that it failed at since this collection was opened."""
        owed = [name for name in due if (tier, name) not in self._given_up]
        if tier == "host":
            return [name for name in owed if name not in self.hosts]
        if tier == "ncu":  # counters of a cell without a timeline explain nothing
            return [name for name in owed if name in self.cells and not self.cells[name].counted]
        return [name for name in owed if name not in self.cells or self.cells[name].tier != tier]

    def take(self, piece: Piece) -> None:
        """Take in what a process left behind. A process that left nothing to read is an InputError, after its cells are
        given up."""
        tier = piece.tier.name
        try:
            if tier == "host":
                self._take_host(piece)
            elif tier == "ncu":
                self._take_counters(piece)
            else:
                self._take_timeline(piece)
            self.tools[tier] = piece.tier.version or "unknown"
        except InputError as error:
            if tier == "ncu":
                self.missing["ncu"] = error.found
            self._give_up(tier, dict.fromkeys(piece.job.workloads, f"{error.where}: {error.found}"))
            raise

    def write(self) -> None:
        """Write the document: cells in the run's order, those of an older key left out."""
        order = [workload.id for workload in self.plan.workloads]
        cells = [self.cells[name] for name in order if name in self.cells]
        used = {cell.tier for cell in cells} | {"ncu" for cell in cells if cell.counted}
        document = SolutionProfile(
            solution=self.who.name,
            digest=self.who.digest,
            backend=self.plan.backend,
            gpu=self.target.facts.gpu or "unknown",
            tools={name: version for name, version in sorted(self.tools.items()) if name in used},
            tiers_missing=dict(sorted(self.missing.items())),
            ceilings=self.ceilings,
            cells=cells,
            failures={name: self.failures[name] for name in order if name in self.failures},
            hosts=[self.hosts[name] for name in order if name in self.hosts],
        )
        # Without what no capture gave, and what only the analysis sets.
        known = document.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        write_atomic(self.path, pretty_json({"schema": document.schema_, **known}))

    def _take_host(self, piece: Piece) -> None:
        did = progress(piece)
        for name, times in did.host_us.items():
            host_us = round(statistics.median(times), 4)
            self.hosts[name] = HostTime(workload=name, key=self._keys[name], calls=len(times), host_us=host_us)
        self._give_up("host", did.failed)

    def _take_timeline(self, piece: Piece) -> None:
        did, tier = progress(piece), piece.tier.name
        if did.done:
            timeline = nsys.read(piece.capture) if tier == "nsys" else cupti.read(piece.capture, whole=did.ended)
            found = calls(timeline)
            for name in did.done:
                mine = [call for call in found if call.mark.workload == name]
                about = {"solution": self.who.name, "workload": name, "key": self._keys[name], "tier": tier}
                cell, before = cell_profile(mine, self.who.stages, **about), self.cells.get(name)
                if cell is None:
                    did.failed[name] = "its calls started no work on the GPU"
                    continue
                self.cells[name] = keep_counters(cell, before) if before else cell
                self.failures.pop(name, None)
        self._give_up(tier, did.failed)

    def _take_counters(self, piece: Piece) -> None:
        ncu.require_permission(piece.said(), piece.log)
        did = progress(piece)
        if did.done:
            counted = ncu.read_csv(piece.capture, ncu.wanted(self.plan.backend))
            for name in did.done:
                mine = [kernel for kernel in counted if kernel.workload == name]
                expected = self.cells[name].kernel_launches
                if len(mine) < expected:  # a report that was cut between two kernels reads as a whole one
                    did.failed[name] = f"{len(mine)} of {expected} kernels were counted"
                else:
                    self.cells[name] = with_counters(self.cells[name], mine, self.who.stages)
        self._give_up("ncu", did.failed)

    def _give_up(self, tier: Name, reasons: dict[str, str]) -> None:
        """Note cells that a tier failed at: without a timeline they are failures, without counters they say why. A host
        time that could not be had is no failure: the timeline, which comes next, decides."""
        for name, reason in reasons.items():
            self._given_up.add((tier, name))
            if tier == "ncu":
                self.cells[name] = self.cells[name].model_copy(update={"counters_missing": reason})
            elif tier != "host" and name not in self.cells:
                self.failures[name] = reason


@functools.cache
def _profiler_digest() -> str:
    return closure.digest(*DECIDES_A_PROFILE)


def _key(plan: Plan, who: Participant, workload_digest: str) -> str:
    return sha256_bytes(
        canonical_json(
            {
                "participant": who.digest,
                "stages": [rule.model_dump() for rule in who.stages],
                "workload": workload_digest,
                "backend": plan.backend,
                "definition": plan.definition,
                "family": plan.families[0],
                "seed": plan.seeds[0],
                "host": plan.host_fingerprint,
                "image": plan.image,
                "profiler": _profiler_digest(),
            }
        )
    )
