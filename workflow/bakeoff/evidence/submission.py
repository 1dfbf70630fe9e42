"""A run that somebody else made: is it whole, as it was measured, disclosed, and comparable with this checkout?

Entry points: `judge`, which reads the folder and runs nothing of it, and `worded` for a person. Every refusal has its
ground, what was found, what is expected and what to do. No file can show that a whole run was not invented: that takes
a signed statement (`evidence/statement.py`).
"""

import re
from collections.abc import Iterator
from pathlib import Path

from bakeoff import closure
from bakeoff.complete import contradicted
from bakeoff.config import ARCH_OF_CAPABILITY, DEFINITIONS, Config
from bakeoff.containers import lock as images
from bakeoff.core.protocols import PROTOCOLS
from bakeoff.errors import InputError
from bakeoff.evidence import disclosure, layout, samples
from bakeoff.evidence.layout import refusal
from bakeoff.files import canonical_json, read_json, sha256_bytes
from bakeoff.host import differences
from bakeoff.plan import make_plan, planned_cells
from bakeoff.planned import block_order, read_plan
from bakeoff.runs import block_host
from bakeoff.runs.coverage import gaps, stale, tampered
from bakeoff.runs.journal import block_folder
from bakeoff.runs.table import Journals
from bakeoff.schema.evidence import Ground, Refusal, SubmissionJudgement
from bakeoff.schema.host import Host
from bakeoff.schema.outcomes import Outcome
from bakeoff.schema.plan import Plan
from bakeoff.schema.sample import Manifest
from bakeoff.stats import environment

ENOUGH_BLOCKS = 5
SHOWN = 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)


def judge(folder: Path) -> SubmissionJudgement:
    """Judge a folder; whatever is wrong with it is in the answer, and no exception leaves."""
    found = layout.flaws(folder)
    if found:
        return SubmissionJudgement(accepted=False, comparable=False, refusals=found)
    try:
        plan, host = read_plan(folder), read_json(folder / "host.json", Host)
        found = [*_plan_flaws(plan), *_host_flaws(plan, host)]
        if any(one.ground == Ground.PLAN for one in found):
            return SubmissionJudgement(accepted=False, comparable=False, refusals=found)
        found += [*_block_flaws(folder, plan, host), *samples.flaws(folder, plan, host, environment.definition(plan))]
        journals = None if found else Journals.read(folder, plan)
        if journals:
            found += [*_incomplete(folder, journals), *disclosure.flaws(folder)]
    except InputError as error:
        found.append(_unreadable(folder, error))
        return SubmissionJudgement(accepted=False, comparable=False, refusals=found)
    reasons = [] if found else _apart(plan, host)
    more = [f"and {len(found) - SHOWN} more refusals"] if len(found) > SHOWN else []
    return SubmissionJudgement(
        accepted=not found,
        comparable=not found and not reasons,
        refusals=found[:SHOWN],
        not_comparable=reasons,
        caveats=[*more, *(_caveats(folder, plan, journals) if journals else [])],
        summary=_summary(plan, host),
    )


def worded(judgement: SubmissionJudgement) -> str:
    """The judgement for a person."""
    lines = [judgement.summary or "nothing could be read"]
    for one in judgement.refusals:
        lines += [f"REFUSED ({one.ground}) {one.where}", f"  found:    {one.found}", f"  expected: {one.expected}"]
        lines.append(f"  to do:    {one.fix}")
    lines += [f"NOT COMPARABLE: {reason}" for reason in judgement.not_comparable]
    lines += [f"note: {caveat}" for caveat in judgement.caveats]
    verdict = "ACCEPTED" if judgement.accepted else "REFUSED"
    beside = " and comparable" if judgement.comparable else ", not comparable" if judgement.accepted else ""
    return "\n".join([*lines, f"verdict: {verdict}{beside}"])


def _unreadable(folder: Path, error: InputError) -> Refusal:
    where = error.where.removeprefix(f"{folder}/")
    return refusal(Ground.UNREADABLE, where, error.found, error.expected)


def _plan_flaws(plan: Plan) -> Iterator[Refusal]:
    """What of config.json contradicts itself or this benchmark; names are checked first, since paths are made of
    them."""
    people, places = [who.name for who in plan.participants], [what.id for what in plan.workloads]
    odd = [name for name in [*people, *places, plan.run] if not _NAME.fullmatch(name)]
    if odd:
        yield refusal(Ground.PLAN, "config.json", f"the name {odd[0]!r}", "letters, digits, `_`, `-` and `.`")
        return
    for what, names in (("participants", people), ("workloads", places)):
        if len(set(names)) < len(names) or not names:
            yield refusal(Ground.PLAN, f"config.json: {what}", "none, or one twice", "each once")
            return
    if not 1 <= plan.blocks <= 100:
        yield refusal(Ground.PLAN, "config.json: blocks", str(plan.blocks), "1 to 100")
        return
    unknown = [name for name in plan.protocols if name not in PROTOCOLS]
    if unknown or not (plan.protocols and plan.families and plan.seeds):
        found = unknown[0] if unknown else "none"
        yield refusal(
            Ground.PLAN, "config.json", f"protocols, families or seeds: {found}", f"of {', '.join(PROTOCOLS)}"
        )
        return
    if plan.backend == "cpu" or plan.definition != DEFINITIONS["full"] or plan.traces_root != "traces":
        where = f"backend {plan.backend}, definition {plan.definition}, traces {plan.traces_root}"
        yield refusal(Ground.PLAN, "config.json", where, f"a GPU's backend, {DEFINITIONS['full']}, traces")
    if [who.name for who in plan.participants if who.role == "reference"] != ["reference"]:
        yield refusal(Ground.PLAN, "config.json", "no reference, or another one", "the definition's reference, once")
        return
    planned = planned_cells(plan)
    if planned != plan.cells:
        pairs = zip(planned, plan.cells, strict=False)
        first = next((one for wanted, one in pairs if wanted != one), None)
        place = f"cell {first.participant}/{first.workload}" if first else f"{len(plan.cells)} of {len(planned)} cells"
        found = f"{place} does not follow from the digests, host, image and settings beside it"
        yield refusal(Ground.PLAN, "config.json: cells", found, "each cell with the key that `bakeoff plan` gives it")


def _host_flaws(plan: Plan, host: Host) -> Iterator[Refusal]:
    # Of older runs: everything but the node, which their files did not name.
    older = host.model_dump(mode="json", by_alias=True, exclude={"fingerprint", "node"})
    said = {sha256_bytes(canonical_json(content)) for content in (host.comparable(), older)}
    if host.fingerprint not in said or host.fingerprint != plan.host_fingerprint:
        found = f"{host.fingerprint[:12]}, which is not of its content; planned for {plan.host_fingerprint[:12]}"
        yield refusal(Ground.HOST, "host.json: fingerprint", found, "one host, as `bakeoff probe` describes it")
    arches = {ARCH_OF_CAPABILITY.get(gpu.capability) for gpu in host.gpus}
    if arches != {plan.backend} or len({gpu.name for gpu in host.gpus}) != 1:
        found = ", ".join(f"{gpu.name} ({gpu.capability})" for gpu in host.gpus) or "no GPU"
        yield refusal(Ground.HOST, "host.json: gpus", found, f"GPUs of one model that run {plan.backend}")
    told = {"driver": host.driver, "cuda_driver": host.cuda_driver}
    for number, gpu in enumerate(host.gpus):
        told |= {f"gpus.{number}.{name}": getattr(gpu, name) for name in ("vbios", "power_limit_w", "memory_mib")}
    told |= {f"packages.{name}": host.packages.get(name) for name in ("torch", "triton", "nvidia-ml-py")}
    for name in [name for name, value in told.items() if value in (None, "")]:
        yield refusal(
            Ground.DISCLOSURE,
            f"host.json: {name}",
            "not told",
            "what `bakeoff probe` finds",
            "probe on the host itself, where NVML answers, then plan and measure again",
        )
    image = images.load().image(images.image_for(plan.backend))
    if plan.image is not None and plan.image != (image.digest or plan.image):
        yield refusal(
            Ground.IMAGE,
            "config.json: image",
            plan.image,
            f"{image.digest}, of containers/images.lock.yaml",
            "run in the locked image (docs/containers.md), or without one",
        )
    elif plan.image is not None and not re.fullmatch(r"sha256:[0-9a-f]{64}", plan.image):
        yield refusal(Ground.IMAGE, "config.json: image", plan.image, "a digest, sha256:...")


def _block_flaws(folder: Path, plan: Plan, host: Host) -> Iterator[Refusal]:
    """Blocks that lack their manifest, or ran on another kind of host, another GPU or in another order than is said."""
    used = set()
    for block in range(plan.blocks):
        path, own = (block_folder(folder, block) / name for name in ("manifest.json", block_host.FILE))
        where = path.relative_to(folder).as_posix()
        if not path.is_file():
            fix = f"`bakeoff measure RUN --block {block}`, which goes on where it stopped; then record again"
            yield refusal(Ground.INCOMPLETE, where, "missing", f"{plan.blocks} complete blocks", fix)
            continue
        manifest, there = read_json(path, Manifest), read_json(own, Host) if own.is_file() else host
        used.add(manifest.gpu)
        alone = own.is_file() or plan.gpus > 1 or len(used) == 1
        if manifest.gpu not in {gpu.uuid for gpu in there.gpus} or not alone:
            expected = "a GPU of the block's host.json, or one and the same of the run's"
            found = f"block {manifest.block} on {manifest.gpu}"
            yield refusal(Ground.HOST, f"{where}: gpu", found, expected, "measure all blocks on hosts of one kind")
        if there.comparable() != host.comparable():
            found = "; ".join(differences(there, host)) or "another host"
            yield refusal(Ground.HOST, own.relative_to(folder).as_posix(), found, "hosts of one kind for all blocks")
        if manifest.block != block or manifest.order != block_order(plan, block):
            yield refusal(Ground.FOREIGN, where, f"block {manifest.block}", f"block {block}, in its planned order")
        missing = {who.name for who in plan.present(block)} - manifest.samples.keys()
        if missing:
            found, fix = f"no digest of {sorted(missing)[0]}'s journal", "measure with a version that seals its samples"
            yield refusal(Ground.TAMPERED, f"{where}: samples", found, "the sha256 of every journal", fix)


def _incomplete(folder: Path, journals: Journals) -> Iterator[Refusal]:
    plan = journals.plan
    changed = set(tampered(folder, plan))
    for sentence in gaps(folder, journals):
        where, _, found = sentence.partition(": ")
        ground = Ground.TAMPERED if sentence in changed else Ground.INCOMPLETE
        yield refusal(ground, where, found, "every block, journal and cell that config.json plans, as it was measured")
    again = "run `bakeoff assemble` and `bakeoff analyse` on the folder, if it was not the samples that changed"
    derived = {"traces and verifications": contradicted(folder, journals), "analysis.json": stale(folder)}
    for where, sentences in derived.items():
        for sentence in sentences:
            yield refusal(Ground.TAMPERED, where, sentence, "what the samples give", again)


def _apart(plan: Plan, host: Host) -> list[str]:
    """How the run's plan differs from the one that this checkout would make for the same settings, and what is too
    little for verdicts."""
    found = []
    harness = closure.digest(*closure.DECIDES_A_SAMPLE)
    if plan.harness != harness:
        found.append(f"the harness that decides a sample is {plan.harness[:12]}, this checkout's is {harness[:12]}")
    twins = [who.twin_of for who in plan.participants if who.twin_of]
    kept = [who.name for who in plan.solutions if not who.twin_of]
    if plan.dataset == "synthetic":
        try:
            mine = make_plan(_settings(plan, kept, [what.id for what in plan.workloads], twins), host.fingerprint)
        except InputError as error:
            return [*found, f"{error.where}: {error.found}, this checkout has {error.expected[:300]}"]
        pairs = {"sources of": (_sources(plan), _sources(mine)), "inputs of": (_inputs(plan), _inputs(mine))}
        for what, (theirs, ours) in pairs.items():
            other = [name for name, digest in theirs.items() if ours.get(name) != digest]
            if other:
                found.append(f"{what} {', '.join(other)} are not this checkout's")
    else:
        found.append("its inputs come from a data set that is not here")
    if plan.blocks < ENOUGH_BLOCKS:
        found.append(f"{plan.blocks} blocks; verdicts need {ENOUGH_BLOCKS}")
    return found


def _sources(plan: Plan) -> dict[str, str]:
    return {who.name: str(who.digest) for who in plan.participants}


def _inputs(plan: Plan) -> dict[str, str]:
    return {what.id: what.digest for what in plan.workloads}


def _settings(plan: Plan, solutions: list[str], workloads: list[str], twins: list[str]) -> Config:
    """The settings that the plan rests on, as far as digests depend on them."""
    same = {name: getattr(plan, name) for name in ("backend", "definition", "families", "seeds", "shards", "anchors")}
    same["blocks"] = plan.blocks_each
    same["protocols"] = [{name: plan.blocks_of(name) // plan.shards} for name in plan.protocols]
    also = {"run": plan.run, "threads": plan.threads, "solutions": solutions, "workloads": workloads, "twins": twins}
    return Config(**same, **also, image=plan.image, lock_clocks_mhz=plan.lock_clocks_mhz)


def _caveats(folder: Path, plan: Plan, journals: Journals) -> list[str]:
    found = []
    failed = [one for one in journals.records if one.outcome not in (Outcome.PASSED, Outcome.UNSUPPORTED)]
    if failed:
        first = failed[0]
        found.append(
            f"{len(failed)} samples did not pass, the first: {first.participant} {first.workload} {first.outcome}"
        )
    unsupported = sorted({one.participant for one in journals.records if one.outcome == Outcome.UNSUPPORTED})
    if unsupported:
        found.append(f"not supported there: {', '.join(unsupported)}")
    if left := samples.unplanned(folder, plan):
        found.append(f"{left} lines of the journals are of no planned cell, and count for nothing")
    manifests = [read_json(block_folder(folder, block) / "manifest.json", Manifest) for block in range(plan.blocks)]
    if any(one.added_later for one in manifests):
        found.append("the digests of the samples were added after the run had been recorded")
    if len({one.gpu for one in manifests}) > 1:
        found.append(f"the blocks are from {len({one.gpu for one in manifests})} GPUs")
    if plan.image is None:
        found.append("measured outside of an image; host.json lists the packages")
    elif images.load().image(images.image_for(plan.backend)).digest is None:
        found.append(f"image {plan.image}: containers/images.lock.yaml has no digest to hold it against")
    if not (folder / "attestation.json").is_file():
        found.append("unsigned: whoever can edit every file can invent a run; `bakeoff attest` and a signature bind it")
    return found


def _summary(plan: Plan, host: Host) -> str:
    gpu = host.gpus[0].name if host.gpus else "no GPU"
    return (
        f"{len(plan.solutions)} solutions on {len(plan.workloads)} workloads, {plan.blocks} blocks on {gpu}, "
        f"driver {host.driver}, {', '.join(plan.protocols)}"
    )
