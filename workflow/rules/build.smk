# Solutions -> packed solutions and compiled kernels. Needs no GPU and holds no GPU.

COMPILED = expand(
    f"{RUN}/build/{{solution}}/{{arch}}/build.json",
    solution=SOLUTIONS,
    arch=SETTINGS.compile,
)


wildcard_constraints:
    block=r"\d\d+",
    arch="sm_90a|sm_100a",
    id="[^/]+",


rule probe:
    output:
        f"{RUN}/host.json",
    log:
        f"{RUN}/logs/probe.log",
    threads: MEASURES
    resources:
        gpu=GPUS,
    params:
        bakeoff=bakeoff,
        # Re-runs exactly when the host changes; of a cluster's nodes, each block checks its own.
        fingerprint="" if JOBS else probe_host().fingerprint,
    shell:
        "echo 'probe       this host' >&2; "
        "{params.bakeoff} probe -o {output:q} 2> {log:q}"


# All solutions in one job: torch is imported once, and each is built in a process of its own, a core each. What is unchanged comes
# from a cache. A solution that does not build says so in its build.json and in the report; the others go on.
BUILT_TOGETHER = 1 if JOBS else workflow.cores


rule build:
    localrule: True
    input:
        given(*SOLUTION_FILES),
        harness_files("bakeoff.build.compile", "bakeoff.build.child"),
    output:
        expand(
            f"{RUN}/build/{{solution}}/{{file}}",
            solution=SOLUTIONS,
            file=["solution.json", "build.json"],
        ),
    log:
        f"{RUN}/logs/build.log",
    threads: BUILT_TOGETHER
    params:
        bakeoff=bakeoff,
        out=above(2, "{solution}"),
        traces=TRACES_ROOT,
        solutions=solution_folders,
        number=len(SOLUTIONS),
        backend=SETTINGS.backend,
        definition=SETTINGS.definition,
    shell:
        "echo 'build       '{params.number}' solutions' >&2; "
        "{params.bakeoff} build {params.solutions} --arch {params.backend:q} --definition {params.definition:q} --keep-going "
        "--traces {params.traces:q} -o {params.out:q} 2> {log:q} >&2"


rule compile:
    # Machine code and resource table of every kernel, for GPUs that need not be here.
    input:
        given(*SOLUTION_FILES),
        harness_files("bakeoff.build.compile", "bakeoff.build.child"),
    output:
        expand(f"{RUN}/build/{{solution}}/{{{{arch}}}}/build.json", solution=SOLUTIONS),
    log:
        f"{RUN}/logs/compile.{{arch}}.log",
    # Two chips fill all cores to the end, and other steps what one leaves.
    threads: max(1, BUILT_TOGETHER // 2)
    params:
        bakeoff=bakeoff,
        out=above(3, "{solution}", "{arch}"),
        traces=TRACES_ROOT,
        solutions=solution_folders,
        number=len(SOLUTIONS),
    shell:
        "echo 'compile     '{params.number}' solutions for '{wildcards.arch:q} >&2; "
        "{params.bakeoff} build {params.solutions} --arch {wildcards.arch:q} --jobs {threads} --keep-going --traces {params.traces:q} "
        "-o {params.out:q} 2> {log:q} >&2"


rule plan:
    localrule: True
    input:
        expand(f"{RUN}/build/{{solution}}/solution.json", solution=SOLUTIONS),
        trace_files(),
        harness_files("bakeoff.plan", *DECIDES_A_SAMPLE),
        host=f"{RUN}/host.json",
    output:
        f"{RUN}/config.json",
    log:
        f"{RUN}/logs/plan.log",
    params:
        bakeoff=bakeoff,
        run=above(1),
        settings=canonical_json(ASKED.model_dump(mode="json")).decode(),
    shell:
        # The verdict of an earlier plan ends with it, as it does wherever samples or traces are made anew.
        "echo 'plan        the cells of '{params.run:q} >&2; "
        "rm -f {params.run:q}/verdict.txt {params.run:q}/../../verdict.txt; "
        "{params.bakeoff} plan --settings {params.settings:q} --host {input.host:q} -o {output:q} 2> {log:q}"
