# Comes first: whatever fails after it, a setting, a missing file or a step, is said (bakeoff/failures.py).
import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir) / "workflow"))

from snakemake.logging import logger

from bakeoff import failures

failures.listen(
    logger,
    # None in a remote job, and without a profile that sets it.
    [str(topic) for topic in workflow.output_settings.quiet or []],
    dry_run=workflow.output_settings.dryrun,
)
