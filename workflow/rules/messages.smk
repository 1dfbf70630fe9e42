# Comes first: whatever fails after it, a setting, a missing file or a step, is said (bakeoff/failures.py).
import sys
from pathlib import Path

from snakemake.logging import logger

# The package beside these rules; where the rules come out of a repository elsewhere (github() and the like), the one that is installed.
_package = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parent
if (_package / "bakeoff").is_dir() and str(_package) not in sys.path:
    sys.path.insert(0, str(_package))
try:
    from bakeoff import failures
    from bakeoff.errors import BakeoffError, InputError
    from bakeoff.files import PROJECT_ROOT as HERE, yaml_mapping
except ImportError as error:
    print(
        f"bakeoff: {sys.executable}\n  found:    {error}\n"
        "  expected: an environment with bakeoff and what it needs\n"
        "  to do:    `make setup` in a checkout, and start Snakemake as `.venv/bin/snakemake`",
        file=sys.stderr,
    )
    sys.exit(2)

IS_MODULE = not workflow.modifier.is_main_snakefile()


def refuse(error):
    print(f"bakeoff: {error}", file=sys.stderr)
    sys.exit(error.exit_code)


def listen(jobs):
    if jobs and workflow.output_settings.quiet:
        # A line for each job that ends: profiles/default, which no other profile can overrule, is quiet about progress.
        workflow.output_settings.quiet = {
            topic
            for topic in workflow.output_settings.quiet
            if str(topic) != "progress"
        }
    if not IS_MODULE:
        failures.listen(
            logger,
            # None in a remote job, and without a profile that sets it.
            [str(topic) for topic in workflow.output_settings.quiet or []],
            dry_run=workflow.output_settings.dryrun,
            jobs=jobs,
        )


listen(jobs=False)

# Read before Snakemake does, which names neither file nor line of a mistake, and lets a second key of a name replace the first.
# A workflow that uses this one as a module brings its own configuration.
CONFIG_FILE = None
try:
    if not workflow.modifier.skip_configfile:
        there = Path("config/config.yaml")
        there = there if there.is_file() else HERE / there
        CONFIG_FILE = str(there) if yaml_mapping(there) else None
    for path in workflow.configfiles:
        yaml_mapping(Path(path))
except BakeoffError as error:
    refuse(error)
