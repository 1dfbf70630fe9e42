# Where steps are jobs of a Slurm cluster: what is checked before the first one is handed out.
from contextlib import ExitStack

from bakeoff import cluster

HELD = ExitStack()  # for as long as this Snakemake lives


def before_jobs(jobs):
    """Refuse a second Snakemake for the same run, and jobs that no node of the cluster can ever run."""
    asked = []
    for job in jobs:
        if job.is_local:
            continue
        wanted = {
            key: job.resources.get(key) or default
            for key, default in (
                ("constraint", ""),
                ("gpu", 0),
                ("gpu_model", None),
                ("mem_mb", 0),
                ("runtime", 0),
            )
        }
        partition = job.resources.get("slurm_partition")
        asked.append(
            cluster.Asked(
                job.rule.name, partition=str(partition) if partition else None, **wanted
            )
        )
    try:
        if not (JOBS and workflow.non_local_exec):
            raise InputError(
                "option --profile",
                found="steps are jobs of a cluster by "
                + ("`cluster: true`" if JOBS else "the executor")
                + " alone",
                expected="both: an executor for a cluster, and `cluster: true` in the configuration",
                hint="give `--profile profiles/slurm`, which sets both",
            )
        HELD.enter_context(cluster.hold_run(Path(RUN)))
        if workflow.executor_plugin.name == "slurm":
            for waits in cluster.require_possible(asked):
                print(f"bakeoff: {waits}", file=sys.stderr)
    except BakeoffError as error:
        refuse(error)
