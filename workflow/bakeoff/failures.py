"""What Snakemake says of a run: nothing while all is well, since the steps speak for themselves, and every failure in
full.

The profiles ask Snakemake to be quiet about host, rules, progress and reasons. Two things are wrong with that alone: it
still says much that is no news, and a failed step counts as a rule and stays hidden. (`quiet: all` would hide every
error.) `listen` mends both. Dry runs, and `--quiet host` on the command line, keep Snakemake's own words.
"""

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bakeoff import cluster

TAIL_LINES = 20
# Said again by the record of the failed job itself.
_SAID_TWICE = (
    "Exiting because a job execution failed",
    "At least one job did not complete",
    "CalledProcessError in file",
)
_SUBMITTED = re.compile(r"Job (\d+) has been submitted with SLURM jobid (\S+) \(log: (.*)\)")


def listen(logger: logging.Logger, quiet: Iterable[str], *, dry_run: bool, jobs: bool = False) -> None:
    """Let the handlers of Snakemake's logger say failures only, or in a dry run everything.

    Args:
        logger: Snakemake's logger, set up.
        quiet: what Snakemake was asked to be quiet about, by name; without "rules" and "host" nothing changes, nor
            without "progress" where no jobs are told of.
        dry_run: whether jobs are listed and not run.
        jobs: whether steps are jobs of a cluster, of which this process alone can tell.
    """
    if not {"rules", "host", *([] if jobs else ["progress"])} <= set(quiet):
        return
    for handler in logger.handlers:
        handler.filters.clear()
        if dry_run:
            handler.addFilter(lambda record: _event(record) not in ("workflow_started", "shellcmd"))
        else:
            wording = JobWording() if jobs else Wording()
            handler.addFilter(wording.is_news)
            handler.setFormatter(wording)


class Wording(logging.Formatter):
    """A failed step: its name, its log and the end of that, unless the step showed it as it ran. Else the record as it
    is."""

    shows_itself = True  # whether what a step shows as it runs is seen here

    def is_news(self, record: logging.LogRecord) -> bool:
        """Whether a record tells of a failure, and no other record does."""
        return record.levelno >= logging.ERROR and not any(words in record.getMessage() for words in _SAID_TWICE)

    def format(self, record: logging.LogRecord) -> str:
        if _event(record) != "job_error":
            return f"snakemake: {record.getMessage()}"
        logs = [str(path).split(" ")[0] for path in getattr(record, "log", []) if path]
        shown = self.shows_itself and " >(tee " in (getattr(record, "shellcmd", None) or "")
        lines = [f"bakeoff: the step {getattr(record, 'rule_name', '?')} failed; its log: {', '.join(logs) or 'none'}"]
        said = str(getattr(record, "rule_msg", None) or "")
        if advice := cluster.hint(said):
            lines.append(f"  {said}\n  to do: {advice}")
        return "\n".join(lines + ([] if shown else [f"  {line}" for path in logs for line in _tail(path)]))


class JobWording(Wording):
    """Besides, what becomes of the jobs of a cluster: submitted, ended, how many are left."""

    shows_itself = False

    def __init__(self) -> None:
        super().__init__()
        self._steps: dict[Any, str] = {}  # name of each job that is no local one, by Snakemake's number
        self._ended = ""

    def is_news(self, record: logging.LogRecord) -> bool:
        event, said = _event(record), vars(record)
        if event == "job_info" and not said["local"]:
            which = " ".join(map(str, (said["wildcards"] or {}).values()))
            self._steps[said["jobid"]] = f"{said['rule_name']:<11} {which}".rstrip()
        elif event == "job_finished":
            self._ended = self._steps.get(said["job_id"], "")
        elif event == "progress" and self._ended:
            return True
        return super().is_news(record) or _SUBMITTED.match(record.getMessage()) is not None

    def format(self, record: logging.LogRecord) -> str:
        if _event(record) == "progress":
            ended, self._ended = self._ended, ""
            return f"{ended}  done, {vars(record)['done']} of {vars(record)['total']} steps"
        if submitted := _SUBMITTED.match(record.getMessage()):
            number, job, log = submitted.groups()
            where = os.path.relpath(log)
            return f"{self._steps.get(int(number), number)}  is Slurm job {job}; what it says: {where}"
        return super().format(record)


def _event(record: logging.LogRecord) -> str:
    """Snakemake's name of what happened; empty where the record names nothing."""
    event = getattr(record, "event", None)
    return str(getattr(event, "value", event) or "")


def _tail(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
    except OSError:
        return ["(the step wrote no log)"]
