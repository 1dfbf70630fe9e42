# All rules. Nothing here reaches into a workflow that uses this one as a module: no shell prefix, no default target, no limits.
from snakemake.utils import min_version

min_version("9.27.1")


include: "messages.smk"


if CONFIG_FILE is not None:

    configfile: CONFIG_FILE


include: "common.smk"


# With `--sdm apptainer` every rule runs in the image by its digest (containers/images.lock.yaml).
container: CONTAINER


include: "build.smk"
include: "measure.smk"
include: "profile.smk"
include: "report.smk"
include: "cluster.smk"


if not IS_MODULE and not JOBS:
    # One job at a time on each GPU. A rule's `gpu=1` alone would not serialise anything.
    workflow.global_resources.setdefault("gpu", SETTINGS.gpus)
    for each in ONE_BLOCK_PER_GPU:
        workflow.global_resources.setdefault(each, 1)


onstart:
    if not workflow.remote_exec and (JOBS or workflow.non_local_exec):
        before_jobs(workflow.dag.needrun_jobs())
        # A verdict that is due again is of a run that is no more, whatever becomes of this one.
    for job in [] if workflow.touch else workflow.dag.needrun_jobs():
        if job.rule.name == "verdict":
            for path in job.output:
                Path(path).unlink(missing_ok=True)


# What the default target makes: the run's own pages, and the landing page and verdict that this checkout showed last.
EVERYTHING = [
    f"{RUN}/index.html",
    f"{RUN}/verdict.txt",
    "results/index.html",
    "results/verdict.txt",
]
