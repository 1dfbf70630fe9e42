# Shared by all rules: the resolved settings, the folders, and the command line that the rules call.
import os
from contextlib import suppress
from shlex import quote
from urllib.parse import quote as link

from bakeoff import config as configuration
from bakeoff.candidates import chosen
from bakeoff.closure import DECIDES_A_SAMPLE, closure
from bakeoff.containers import lock as images, preflight
from bakeoff.files import canonical_json, require_room
from bakeoff.host import probe as probe_host
from bakeoff.planned import readable

deployment = workflow.deployment_settings
APPTAINER = any(method.name == "APPTAINER" for method in deployment.deployment_method)


def place(path):
    """A file of the checkout as rules name it: relative where Snakemake runs there, so that a checkout can be moved."""
    path = Path(os.path.abspath(path))
    if not IS_MODULE and Path.cwd() == HERE and path.is_relative_to(HERE):
        return str(path.relative_to(HERE))
    return str(path)


def literal(path):
    """Whether Snakemake takes a path as it stands."""
    return path.isprintable() and not set("{}") & set(path)


try:
    if os.pathsep in str(HERE) or not str(HERE).isprintable():
        raise InputError(
            HERE,
            found="a colon or a control character in the checkout's path",
            expected="a path that can stand in PYTHONPATH",
            hint="move the checkout; blanks, quotes and other signs are fine",
        )
    ASKED = configuration.parse(config, "config/config.yaml and --config")
    # Steps are jobs of a cluster: this process hands them out, or is one of them. The host that it runs on decides nothing.
    JOBS = ASKED.cluster
    SETTINGS = (configuration.resolve_for_jobs if JOBS else configuration.resolve)(
        ASKED
    )
    if JOBS and not workflow.remote_exec:
        listen(jobs=True)
    for folder in (HERE, *SETTINGS.solution_roots, SETTINGS.traces_root):
        if not literal(place(configuration.under_root(folder))):
            raise InputError(
                folder,
                found="braces in a path that rules name in full",
                expected="none: Snakemake takes what stands in them for a wildcard",
                hint="rename the folder; the checkout's own may have them if Snakemake runs in it",
            )
    SPECS = {spec.name: spec for spec in chosen(SETTINGS)[0]}
    # A step that cannot write its log cannot say why it stops. A run takes a few MB, its compilers' caches more.
    for folder in ("results/rendered", f"results/runs/{SETTINGS.run}"):
        require_room(Path(folder), megabytes=100)
    # The image that rules carry, and that they run in with `--sdm apptainer`; otherwise the one that Snakemake itself runs in, if any.
    IMAGE_NAME = images.image_for(SETTINGS.backend)
    IMAGE = images.load().image(IMAGE_NAME)
    # Snakemake takes no image from a path with a blank, whether it is used or not.
    CONTAINER = images.reference(IMAGE_NAME, IMAGE)
    CONTAINER = None if " " in str(CONTAINER) else CONTAINER
    # What profiles has an image of its own, with Nsight; without it the profile comes from CUPTI, which every image has.
    PROFILERS = images.image_for(SETTINGS.backend, profile=True)
    WITH_PROFILERS = images.reference(PROFILERS, images.load().image(PROFILERS))
    WITH_PROFILERS = (
        CONTAINER if " " in str(WITH_PROFILERS) else WITH_PROFILERS or CONTAINER
    )
    if APPTAINER:
        # Where steps are jobs, each finds out for itself whether its node has the GPU: a login node has none.
        preflight.before(IMAGE_NAME, gpu=SETTINGS.backend != "cpu" and not JOBS)
        if CONTAINER is None:
            raise InputError(
                HERE,
                found="a blank in the checkout's path",
                expected="none with `--sdm apptainer`",
                hint="move the checkout, or run without containers",
            )
except BakeoffError as error:
    refuse(error)

if APPTAINER and not IS_MODULE:
    # The host's environment stays outside; the GPU comes in where one is used.
    flags = ["--cleanenv", *(["--nv"] if SETTINGS.backend != "cpu" else [])]
    if not Path.cwd().is_relative_to(HERE):
        flags += ["--bind", quote(str(HERE))]
    deployment.apptainer_args = " ".join(flags + [deployment.apptainer_args])
if SETTINGS.image is None:
    made_in = IMAGE.digest if APPTAINER else os.environ.get("BAKEOFF_IMAGE_DIGEST")
    ASKED, SETTINGS = [
        some.model_copy(update={"image": made_in}) for some in (ASKED, SETTINGS)
    ]

RUN = f"results/runs/{SETTINGS.run}"
# GPUs and processors of a step that measures. On the cpu backend nothing is timed, so the mutants may run beside it; on a GPU nothing
# does but blocks of other GPUs. A node's processors are not known here: profiles/slurm says how many a job gets.
GPUS = 0 if SETTINGS.backend == "cpu" else 1
MEASURES = 1 if JOBS or not GPUS else max(1, workflow.cores // SETTINGS.gpus)
SOLUTIONS = sorted(SPECS)
BLOCKS = [f"{block:02d}" for block in range(SETTINGS.blocks * SETTINGS.shards)]


def bakeoff(wildcards, output):
    """The command line of this checkout, installed or not. It takes the output so that another path or Python makes nothing stale."""
    # In an image the command line is the image's: BAKEOFF_PYTHON is set there, and only there.
    return (
        f"PYTHONPATH={quote(str(HERE / 'workflow'))}${{PYTHONPATH:+:$PYTHONPATH}} "
        f"${{BAKEOFF_PYTHON:-{quote(sys.executable)}}} -m bakeoff"
    )


def given(*paths):
    """Input that is taken literally, whatever signs stand in a path."""
    return lambda wildcards: [place(path) for path in paths]


def above(levels, *below):
    """The folder that many levels above the first output, or one below that."""
    return lambda wildcards, output: os.path.join(
        Path(output[0]).parents[levels - 1], *below
    )


TRACES_ROOT = place(configuration.under_root(SETTINGS.traces_root))
TEMPLATES = given(
    *sorted(path for path in (HERE / "report_templates").rglob("*") if path.is_file())
)
# The published and recorded runs of the checkout, and of the folder that Snakemake runs in.
COMMITTED = {
    path.parent.name: place(path.parent)
    for root in dict.fromkeys([HERE, Path.cwd()])
    for pattern in ("published/*/meta.yaml", "recorded/*/config.json")
    for path in sorted((root / "results").glob(pattern))
}
# On the landing page: recorded runs first. What cannot be shown is left out with a word, so that it never blocks a run.
LEFT_OUT = {
    name: (
        "braces or a control character in its name"
        if not literal(folder)
        else "another version of bakeoff made it"
    )
    for name, folder in COMMITTED.items()
    if not (literal(folder) and readable(Path(folder)))
}
for name, why in LEFT_OUT.items():
    print(f"bakeoff: {COMMITTED[name]!r} is left out: {why}", file=sys.stderr)
SHOWN = sorted(
    COMMITTED.keys() - LEFT_OUT,
    key=lambda name: (Path(COMMITTED[name]).parent.name == "published", name),
)


def beside(wildcards):
    """Links to the reports before and after a committed one, by their names, which begin with the date."""
    names = sorted({*SHOWN, wildcards.id})
    place = names.index(wildcards.id)
    near = {"--previous": names[:place][-1:], "--next": names[place + 1 :][:1]}
    return [
        word
        for flag, found in near.items()
        for name in found
        for word in (flag, f"../{link(name)}/report.html")
    ]


def neighbours():
    """Analyses of other runs made here, which keep their place on the landing page, and when each was made."""
    made = {}
    for path in Path("results/runs").glob("*/analysis.json"):
        with suppress(OSError):  # a run that goes just now
            made[str(path)] = path.stat().st_mtime_ns
    made.pop(f"{RUN}/analysis.json", None)
    return sorted(made.items())


# All files that the packed solutions are made of.
SOLUTION_FILES = sorted({path for spec in SPECS.values() for path in spec.files()})


def solution_folders(wildcards):
    """The solutions by name, after the folders to find them in: short, since a command line has an end."""
    roots = [place(configuration.under_root(root)) for root in SETTINGS.solution_roots]
    return " ".join(
        [*SOLUTIONS, *(word for root in roots for word in ("--root", quote(root)))]
    )


def harness_files(*modules):
    """The code that the named modules rest on: a change there makes their results stale."""
    return given(*closure(*modules))


def patience(wildcards, output):
    """How long journals and profiles are waited for: Snakemake waits for their manifests alone. It takes the output so that another patience makes
    nothing stale."""
    latest = getattr(workflow.execution_settings, "latency_wait", 0)
    return f"--wait {latest}" if JOBS and latest else ""


def trace_files():
    return given(*sorted(Path(TRACES_ROOT).rglob(f"{SETTINGS.definition}.json*")))


def committed_folder(wildcards):
    return COMMITTED.get(wildcards.id, f"results/recorded/{wildcards.id}")


def committed_run(wildcards):
    """The files of a published or recorded run."""
    return sorted(
        str(path)
        for path in Path(committed_folder(wildcards)).rglob("*")
        if path.is_file()
    )
