# Shared by all rules: the resolved settings, the folders, and the command line that the rules call.
import os
import sys
from pathlib import Path

from bakeoff import config as configuration
from bakeoff.containers import lock as images, preflight
from bakeoff.errors import BakeoffError
from bakeoff.files import canonical_json, require_room, yaml_document
from bakeoff.host import probe as probe_host
from bakeoff.plan import chosen

HERE = Path(workflow.basedir)
deployment = workflow.deployment_settings
APPTAINER = any(method.name == "APPTAINER" for method in deployment.deployment_method)

try:
    for path in workflow.configfiles:
        yaml_document(
            Path(path)
        )  # Snakemake lets a second key of a name replace the first
    ASKED = configuration.parse(config, "config/config.yaml and --config")
    SETTINGS = configuration.resolve(ASKED)
    SPECS = {spec.name: spec for spec in chosen(SETTINGS)[0]}
    # A step that cannot write its log cannot say why it stops. A run takes a few MB, its compilers' caches more.
    for folder in ("results/rendered", f"results/runs/{SETTINGS.run}"):
        require_room(Path(folder), megabytes=100)
    # The image that rules carry, and that they run in with `--sdm apptainer`; otherwise the one that Snakemake itself runs in, if any.
    IMAGE_NAME = images.image_for(SETTINGS.backend)
    IMAGE = images.load().image(IMAGE_NAME)
    if APPTAINER:
        preflight.before(IMAGE_NAME, gpu=SETTINGS.backend != "cpu")
except BakeoffError as error:
    print(f"bakeoff: {error}", file=sys.stderr)
    sys.exit(error.exit_code)

if APPTAINER:
    # The host's environment stays outside; the GPU comes in where one is used.
    flags = ["--cleanenv", *(["--nv"] if SETTINGS.backend != "cpu" else [])]
    deployment.apptainer_args = " ".join(flags + [deployment.apptainer_args])
if SETTINGS.image is None:
    made_in = IMAGE.digest if APPTAINER else os.environ.get("BAKEOFF_IMAGE_DIGEST")
    ASKED, SETTINGS = [
        some.model_copy(update={"image": made_in}) for some in (ASKED, SETTINGS)
    ]

RUN = f"results/runs/{SETTINGS.run}"
SOLUTIONS = sorted(SPECS)
TRACES_ROOT = os.path.relpath(configuration.under_root(SETTINGS.traces_root))
# What every rule's shell starts with: the run's folder, and the command line of this checkout, installed or not.
# In an image the command line is the image's: BAKEOFF_PYTHON is set there, and only there.
# Doubled braces, because Snakemake formats the prefix together with the command.
shell.prefix(
    f"export RUN={RUN} PYTHONPATH={HERE / 'workflow'}"
    "${{PYTHONPATH:+:$PYTHONPATH}}; "
    "bakeoff() {{ ${{BAKEOFF_PYTHON:-"
    f"{sys.executable}"
    '}} -m bakeoff "$@"; }}; '
)
BLOCKS = [f"{block:02d}" for block in range(SETTINGS.blocks)]


PUBLISHED = sorted(
    path.parent.name for path in Path("results/published").glob("*/meta.yaml")
)
RECORDED = sorted(
    path.parent.name for path in Path("results/recorded").glob("*/config.json")
)
# Other runs made here keep their place on the landing page.
OTHERS = sorted(
    str(path.parent.parent)
    for path in Path("results/runs").glob("*/report/report.html")
    if str(path.parent.parent) != RUN
)
TEMPLATES = sorted(
    str(path) for path in Path("report_templates").rglob("*") if path.is_file()
)


wildcard_constraints:
    solution="[A-Za-z0-9][A-Za-z0-9._-]*",
    block=r"\d\d",
    arch="sm_90a|sm_100a",


def solution_files(wildcards):
    """All files that a packed solution is made of."""
    return [os.path.relpath(path) for path in SPECS[wildcards.solution].files()]


def solution_folder(wildcards):
    """The planned folder as a path with a slash, which `bakeoff build` tells from a name."""
    return os.path.join(".", os.path.relpath(SPECS[wildcards.solution].folder))


def harness_files(*rooms):
    """The code of the named rooms: a change there makes their results stale."""
    return sorted(
        str(path.relative_to(HERE))
        for room in rooms
        for path in (HERE / "workflow/bakeoff" / room).rglob("*")
        if path.suffix in (".py", ".yaml")
    )


def trace_files():
    return [
        str(path)
        for path in sorted(Path(TRACES_ROOT).rglob(f"{SETTINGS.definition}.json*"))
    ]


def committed_run(wildcards):
    """The files of a published or recorded run."""
    kind = "published" if wildcards.id in PUBLISHED else "recorded"
    return sorted(
        str(path)
        for path in Path("results", kind, wildcards.id).rglob("*")
        if path.is_file()
    )


def committed_folder(wildcards):
    return f"results/{'published' if wildcards.id in PUBLISHED else 'recorded'}/{wildcards.id}"
