"""What Snakemake says of a run: nothing while all is well, since the steps speak for themselves, and every failure in
full.

The profiles ask Snakemake to be quiet about host, rules, progress and reasons. Two things are wrong with that alone: it
still says much that is no news, and a failed step counts as a rule and stays hidden. (`quiet: all` would hide every
error.) `listen` mends both. Dry runs, and `--quiet host` on the command line, keep Snakemake's own words.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

TAIL_LINES = 20
# Said again by the record of the failed job itself.
_SAID_TWICE = (
    "Exiting because a job execution failed",
    "At least one job did not complete",
    "CalledProcessError in file",
)


def listen(logger: logging.Logger, quiet: Iterable[str], *, dry_run: bool) -> None:
    """Let the handlers of Snakemake's logger say failures only, or in a dry run everything.

    Args:
        logger: Snakemake's logger, set up.
        quiet: what Snakemake was asked to be quiet about, by name; without "rules" and "progress" nothing changes.
        dry_run: whether jobs are listed and not run.
    """
    if not {"rules", "progress", "host"} <= set(quiet):
        return
    for handler in logger.handlers:
        handler.filters.clear()
        if dry_run:
            handler.addFilter(lambda record: _event(record) not in ("workflow_started", "shellcmd"))
        else:
            handler.addFilter(is_news)
            handler.setFormatter(Wording())


def is_news(record: logging.LogRecord) -> bool:
    """Whether a record tells of a failure, and no other record does."""
    return record.levelno >= logging.ERROR and not any(words in record.getMessage() for words in _SAID_TWICE)


class Wording(logging.Formatter):
    """A failed step: its name, its log and the end of that, unless the step showed it as it ran. Else the record as it
    is."""

    def format(self, record: logging.LogRecord) -> str:
        if _event(record) != "job_error":
            return f"snakemake: {record.getMessage()}"
        logs = [str(path).split(" ")[0] for path in getattr(record, "log", [])]
        shown = " >(tee " in (getattr(record, "shellcmd", None) or "")
        lines = [f"bakeoff: the step {getattr(record, 'rule_name', '?')} failed; its log: {', '.join(logs) or 'none'}"]
        return "\n".join(lines + ([] if shown else [f"  {line}" for path in logs for line in _tail(path)]))


def _event(record: logging.LogRecord) -> str:
    """Snakemake's name of what happened; empty where the record names nothing."""
    event = getattr(record, "event", None)
    return str(getattr(event, "value", event) or "")


def _tail(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
    except OSError:
        return ["(the step wrote no log)"]
