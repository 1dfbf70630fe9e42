# Shared by all rules: the resolved settings, the folders, and the command line that the rules call.
import os
import sys
from pathlib import Path

HERE = Path(workflow.basedir)
sys.path.insert(0, str(HERE / "workflow"))

from bakeoff import config as configuration
from bakeoff.build.spec import discover
from bakeoff.errors import BakeoffError
from bakeoff.files import canonical_json
from bakeoff.measure.host import probe as probe_host

try:
    ASKED = configuration.parse(config, "config/config.yaml")
    SETTINGS = configuration.resolve(ASKED)
    SPECS = {
        spec.name: spec
        for spec in discover(configuration.under_root(SETTINGS.solutions_root))
    }
except BakeoffError as error:
    sys.exit(f"bakeoff: {error}")

# Workers inherit it; an editable install is not needed to run the workflow.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(HERE / "workflow"), os.environ.get("PYTHONPATH")])
)
BAKEOFF = f"{sys.executable} -m bakeoff"
RUN = f"results/runs/{SETTINGS.run}"
SOLUTIONS = [
    name for name in SPECS if SETTINGS.solutions == "all" or name in SETTINGS.solutions
]
BLOCKS = [f"{block:02d}" for block in range(SETTINGS.blocks)]


wildcard_constraints:
    solution="[A-Za-z0-9][A-Za-z0-9._-]*",
    block=r"\d\d",
    arch="sm_90a|sm_100a",


def solution_files(wildcards):
    """All files that a packed solution is made of."""
    return [os.path.relpath(path) for path in SPECS[wildcards.solution].files()]


def harness_files(*rooms):
    """The code of the named rooms: a change there makes their results stale."""
    return sorted(
        str(path.relative_to(HERE))
        for room in rooms
        for path in (HERE / "workflow/bakeoff" / room).rglob("*")
        if path.suffix in (".py", ".yaml")
    )


def trace_files():
    root = Path(SETTINGS.traces_root)
    return [str(path) for path in sorted(root.rglob(f"{SETTINGS.definition}.json*"))]
