# Where the GPU time goes: after all measuring, and never part of it. On the cpu backend there is nothing to profile, and no job.

PROFILED = SETTINGS.backend != "cpu" and SETTINGS.profile.tier != "none"
# Only the manifest is an output: the summaries beside it are kept and extended when the step starts again.
PROFILE = [f"{RUN}/profile/manifest.json"] if PROFILED else []


rule profile:
    input:
        f"{RUN}/config.json",
        expand(f"{RUN}/samples/block-{{block}}/manifest.json", block=BLOCKS),
        harness_files(
            "bakeoff.profile.capture",
            "bakeoff.profile.child",
            "bakeoff.profile.ceilings",
        ),
    output:
        f"{RUN}/profile/manifest.json",
    log:
        f"{RUN}/logs/profile.log",
    threads: 2
    resources:
        gpu=1,
    container:
        WITH_PROFILERS
    params:
        bakeoff=bakeoff,
        run=above(2),
    shell:
        # Progress stays visible and is kept.
        "{params.bakeoff} profile {params.run:q} 2> >(tee {log:q} >&2)"
