"""A stranger's run: the honest one is accepted, and each way to be wrong is refused with its ground and what to do."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bakeoff.cli import main
from bakeoff.evidence import layout
from bakeoff.evidence.disclosure import HEADING, QUESTIONS
from bakeoff.evidence.submission import judge, worded
from bakeoff.files import PROJECT_ROOT
from bakeoff.runs.assemble import assemble_run
from bakeoff.schema.evidence import Ground
from support.submissions import VICTIM, edit, edit_line, rekey, reseal


def halve(record: dict) -> None:
    record["tiers"] = {tier: [time / 2 for time in calls] for tier, calls in record["tiers"].items()}


def altered_sample(run: Path) -> None:
    edit_line(run, halve)


def broken_line(run: Path) -> None:
    edit_line(run, halve, sealed=False)


def resealed(run: Path) -> None:
    edit_line(run, halve)
    reseal(run)


def faster_than_memory(run: Path) -> None:
    """Everything is made anew, from times that cannot be."""
    edit_line(run, lambda record: record.update(tiers={name: [1.5] * 8 for name in record["tiers"]}))
    reseal(run)
    assemble_run(run)


def longer_than_the_cell(run: Path) -> None:
    edit_line(run, lambda record: record.update(seconds=1e-6))
    reseal(run)


def foreign_line(run: Path) -> None:
    edit_line(run, lambda record: record.update(seed=7))
    reseal(run)


def line_of_another_block(run: Path) -> None:
    edit_line(run, lambda record: record.update(block=3))
    reseal(run)


def forged_passed(run: Path) -> None:
    edit_line(run, lambda record: record.update(gates={}, numerics=None))
    reseal(run)


def passed_by_other_bounds(run: Path) -> None:
    def loosen(record: dict) -> None:
        record["numerics"]["matched_ratio"] = 0.5
        record["gates"]["published"]["checks"]["matched_ratio"] = {"bound": 0.4, "passed": True, "value": 0.5}

    edit_line(run, loosen)
    reseal(run)


def other_gpu(run: Path) -> None:
    edit(run / "samples/block-03/manifest.json", lambda manifest: manifest.update(gpu="GPU-1234"))


def undisclosed_driver(run: Path) -> None:
    """With a fingerprint and keys that fit."""
    from bakeoff.files import canonical_json, read_json, sha256_bytes
    from bakeoff.schema.host import Host

    edit(run / "host.json", lambda host: host.update(driver=None))
    found = sha256_bytes(canonical_json(read_json(run / "host.json", Host).comparable()))
    edit(run / "host.json", lambda host: host.update(fingerprint=found))
    rekey(run, lambda plan: plan.update(host_fingerprint=found))


def wrong_image(run: Path) -> None:
    rekey(run, lambda plan: plan.update(image="sha256:beef"))


def image_after_planning(run: Path) -> None:
    edit(run / "config.json", lambda plan: plan.update(image="sha256:" + "0" * 64))


def dropped_cell(run: Path) -> None:
    edit(run / "config.json", lambda plan: plan["cells"].pop())


def missing_block(run: Path) -> None:
    shutil.rmtree(run / "samples/block-04")


def missing_journal(run: Path) -> None:
    (run / f"samples/block-01/{VICTIM}.jsonl.gz").unlink()


def digest_missing(run: Path) -> None:
    edit(run / "samples/block-01/manifest.json", lambda manifest: manifest["samples"].clear())


def overlapping_blocks(run: Path) -> None:
    edit_line(run, lambda record: record.update(seconds=600.0))
    reseal(run)


def block_of_another_host(run: Path) -> None:
    host = json.loads((run / "host.json").read_text())
    (run / "samples/block-03/host.json").write_text(json.dumps({**host, "driver": "590.00", "node": "n2"}))


def other_host(run: Path) -> None:
    edit(run / "host.json", lambda host: host["gpus"][0].update(name="NVIDIA B200"))


def edited_traces(run: Path) -> None:
    path = run / "verification.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))


def symlink(run: Path) -> None:
    (run / "gate_power.json").symlink_to("/etc/passwd")


def linked_folder(run: Path) -> None:
    (run / "profile").symlink_to("/etc")


def pipe(run: Path) -> None:
    os.mkfifo(run / "gate_power.json")


def script(run: Path) -> None:
    (run / "run.sh").write_text("exit 1\n")


def odd_name(run: Path) -> None:
    (run / "samples/block-00/..\u202egnp.jsonl").write_text("")


def not_utf8(run: Path) -> None:
    Path(os.fsdecode(os.fsencode(run) + b"/\xff.json")).write_text("")


def gigantic(run: Path) -> None:
    with (run / "analysis.json").open("wb") as stream:
        stream.truncate(layout.LARGEST + 1)


def bomb(run: Path) -> None:
    with gzip.open(run / f"samples/block-00/{VICTIM}.jsonl.gz", "wb", compresslevel=1) as stream:
        for _ in range(layout.LARGEST // 1_000_000 + 1):
            stream.write(bytes(1_000_000))


def no_gzip(run: Path) -> None:
    (run / f"samples/block-00/{VICTIM}.jsonl.gz").write_bytes(b"no")


def deep_plan(run: Path) -> None:
    (run / "config.json").write_text("[" * 200_000 + "]" * 200_000)


def deep_manifest(run: Path) -> None:
    (run / "samples/block-00/manifest.json").write_text('{"spent":' * 100_000 + "1" + "}" * 100_000)


def traversal(run: Path) -> None:
    edit(run / "config.json", lambda plan: plan["participants"][1].update(name="../../../../etc/passwd"))


def traces_elsewhere(run: Path) -> None:
    edit(run / "config.json", lambda plan: plan.update(traces_root="/etc"))


def no_seeds(run: Path) -> None:
    edit(run / "config.json", lambda plan: plan.update(seeds=[]))


def countless_blocks(run: Path) -> None:
    edit(run / "config.json", lambda plan: plan.update(blocks=10**9))


def other_schema(run: Path) -> None:
    edit(run / "config.json", lambda plan: plan.update(schema="bakeoff/plan/9"))


BAD: list[tuple[Callable[[Path], None], Ground, str]] = [
    (missing_block, Ground.INCOMPLETE, "samples/block-04/manifest.json"),
    (missing_journal, Ground.INCOMPLETE, f"samples/block-01/{VICTIM}.jsonl"),
    (digest_missing, Ground.TAMPERED, "samples/block-01/manifest.json: samples"),
    (altered_sample, Ground.TAMPERED, "samples/block-02/manifest.json"),
    (broken_line, Ground.UNREADABLE, f"samples/block-02/{VICTIM}.jsonl.gz:1"),
    (resealed, Ground.TAMPERED, "traces and verifications"),
    (faster_than_memory, Ground.IMPLAUSIBLE, f"samples/block-02/{VICTIM}.jsonl:1"),
    (longer_than_the_cell, Ground.IMPLAUSIBLE, f"samples/block-02/{VICTIM}.jsonl:1"),
    (overlapping_blocks, Ground.IMPLAUSIBLE, "samples/block-"),
    (edited_traces, Ground.TAMPERED, "traces and verifications"),
    (foreign_line, Ground.FOREIGN, f"samples/block-02/{VICTIM}.jsonl:1"),
    (line_of_another_block, Ground.FOREIGN, f"samples/block-02/{VICTIM}.jsonl:1"),
    (forged_passed, Ground.UNREADABLE, f"samples/block-02/{VICTIM}.jsonl.gz:1"),
    (passed_by_other_bounds, Ground.GATES, f"samples/block-02/{VICTIM}.jsonl:1"),
    (other_gpu, Ground.HOST, "samples/block-03/manifest.json: gpu"),
    (block_of_another_host, Ground.HOST, "samples/block-03/host.json"),
    (other_host, Ground.HOST, "host.json: fingerprint"),
    (undisclosed_driver, Ground.DISCLOSURE, "host.json: driver"),
    (wrong_image, Ground.IMAGE, "config.json: image"),
    (image_after_planning, Ground.PLAN, "config.json: cells"),
    (dropped_cell, Ground.PLAN, "config.json: cells"),
    (traversal, Ground.PLAN, "config.json"),
    (traces_elsewhere, Ground.PLAN, "config.json"),
    (no_seeds, Ground.PLAN, "config.json"),
    (countless_blocks, Ground.PLAN, "config.json: blocks"),
    (other_schema, Ground.UNREADABLE, "config.json"),
    (deep_plan, Ground.UNREADABLE, "config.json"),
    (deep_manifest, Ground.UNREADABLE, "samples/block-00/manifest.json"),
    (symlink, Ground.FILES, "gate_power.json"),
    (linked_folder, Ground.FILES, "profile"),
    (pipe, Ground.FILES, "gate_power.json"),
    (script, Ground.FILES, "run.sh"),
    (odd_name, Ground.FILES, "samples/block-00/.."),
    (not_utf8, Ground.FILES, ""),
    (gigantic, Ground.FILES, "analysis.json"),
    (bomb, Ground.FILES, f"samples/block-00/{VICTIM}.jsonl.gz"),
    (no_gzip, Ground.FILES, f"samples/block-00/{VICTIM}.jsonl.gz"),
]


def test_an_honest_run_is_accepted_and_comparable(honest: Path) -> None:
    found = judge(honest)
    assert not found.refusals and found.accepted and found.comparable, worded(found)
    assert "verdict: ACCEPTED and comparable" in worded(found)
    assert any("unsigned" in caveat for caveat in found.caveats)


@pytest.mark.parametrize(("harm", "ground", "where"), BAD, ids=[harm.__name__ for harm, _, _ in BAD])
def test_what_is_wrong_is_refused_with_its_ground(
    harm: Callable[[Path], None], ground: Ground, where: str, run: Path
) -> None:
    harm(run)
    found = judge(run)
    assert not found.accepted and not found.comparable
    first = found.refusals[0]
    assert first.ground == ground and first.where.startswith(where), worded(found)
    assert first.found and first.expected and first.fix
    assert "REFUSED" in worded(found)


def test_other_sources_are_accepted_and_not_comparable(run: Path) -> None:
    rekey(run, lambda plan: plan["participants"][1].update(digest="0" * 64))
    assemble_run(run)
    found = judge(run)
    assert found.accepted and not found.comparable, worded(found)
    assert any(VICTIM in reason or "deepgemm_moe" in reason for reason in found.not_comparable)


def test_lines_of_an_earlier_plan_count_for_nothing_and_are_told(run: Path) -> None:
    edit(run / "config.json", lambda plan: plan["workloads"].pop())
    rekey(run, lambda plan: plan.update(cells=[one for one in plan["cells"] if one["workload"] == "T1_o32"]), keep=True)
    assemble_run(run)
    found = judge(run)
    assert found.accepted, worded(found)
    assert any("are of no planned cell" in caveat for caveat in found.caveats)


def test_few_blocks_are_accepted_and_not_comparable(run: Path) -> None:
    edit(run / "config.json", lambda plan: plan.update(blocks=2))
    for block in (2, 3, 4):
        shutil.rmtree(run / f"samples/block-{block:02d}")
    assemble_run(run)
    found = judge(run)
    assert found.accepted and found.not_comparable == ["2 blocks; verdicts need 5"], worded(found)


def test_the_form_says_what_is_told_and_its_questions_want_answers(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    form, words = run / "DISCLOSURE.md", ["verify", "--submission", str(run)]
    assert main([*words, "--disclosure", str(form)]) == 1, "no question is answered"
    assert "no answer to" in capsys.readouterr().out
    made = form.read_text()
    for told in ("580.159.04", "NVIDIA H100 80GB HBM3", "700.0 W", "2026-11-24T", "PASSED"):
        assert told in made
    for question in QUESTIONS:
        form.write_text(form.read_text().replace(f"**{question}**\n", f"**{question}**\n\nNobody, none, first.\n"))
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accepted"]
    form.write_text(form.read_text().replace("580.159.04", "580.000.00"))
    assert judge(run).refusals[0].ground == Ground.DISCLOSURE
    assert HEADING in made and made == _again(run, form)


def _again(run: Path, form: Path) -> str:
    form.unlink()
    main(["verify", "--submission", str(run), "--disclosure", str(form)])
    return form.read_text()


def test_a_run_is_submitted_by_the_commands_of_contributing(
    honest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured, new = tmp_path / "measured", tmp_path / "new"
    shutil.copytree(honest, measured, ignore=shutil.ignore_patterns("*.gz"))
    for path in honest.rglob("*.jsonl.gz"):
        (measured / path.relative_to(honest)).with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    page = (PROJECT_ROOT / "CONTRIBUTING.md").read_text()
    block = page.split("**A run of yours**")[1].split("```sh\n")[1].split("```")[0]
    said = []
    for line in block.splitlines():
        if line.startswith("bakeoff "):
            words = line.partition("  #")[0].replace("results/runs/b200", str(measured)).replace("$NEW", str(new))
            said.append((main(words.split()[1:]), capsys.readouterr().out))
            form = new / "DISCLOSURE.md"
            if form.is_file():
                form.write_text(form.read_text().replace("?**\n", "?**\n\nNo.\n"))
    assert [code for code, _ in said] == [0, 0, 1, 0], said
    assert "no answer to" in said[2][1] and "verdict: ACCEPTED and comparable" in said[3][1]


def judged(folder: Path, summary: Path) -> subprocess.CompletedProcess[str]:
    words = [str(PROJECT_ROOT / ".ci/judge.sh"), str(Path(sys.executable).parent), str(folder)]
    path = {"GITHUB_STEP_SUMMARY": str(summary), "PYTHONPATH": str(PROJECT_ROOT / "workflow")}
    return subprocess.run(words, env={**os.environ, **path}, capture_output=True, text=True)


def test_a_folder_of_submissions_is_judged_one_by_one(honest: Path, tmp_path: Path) -> None:
    folder, summary = tmp_path / "submissions", tmp_path / "summary.md"
    shutil.copytree(honest, folder / "good")
    (folder / "README.md").write_text("what this is")
    assert judged(folder, summary).returncode == 0
    (folder / "b<ad>").symlink_to(honest)
    done = judged(folder, summary)
    assert done.returncode == 1 and "REFUSED (FILES) .\n  found:    a link" in done.stdout
    assert "verdict: ACCEPTED and comparable" in done.stdout
    assert "### b?ad?\n" in summary.read_text() and "    verdict: REFUSED" in summary.read_text()
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert judged(folder, summary).returncode == 2
