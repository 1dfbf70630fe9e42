# Solutions -> packed solutions and compiled kernels. Needs no GPU and holds no GPU.

COMPILED = expand(
    f"{RUN}/build/{{solution}}/{{arch}}/build.json",
    solution=SOLUTIONS,
    arch=SETTINGS.compile,
)


rule probe:
    output:
        f"{RUN}/host.json",
    log:
        f"{RUN}/logs/probe.log",
    params:
        # Re-runs exactly when the host changes.
        fingerprint=probe_host().fingerprint,
    shell:
        "echo 'probe       this host' >&2; "
        "bakeoff probe -o {output} 2> {log}"


rule build:
    input:
        solution_files,
        harness_files("build"),
    output:
        f"{RUN}/build/{{solution}}/solution.json",
        f"{RUN}/build/{{solution}}/build.json",
    log:
        f"{RUN}/logs/build.{{solution}}.log",
    params:
        out=lambda wildcards, output: str(Path(output[0]).parent),
        folder=solution_folder,
        traces=TRACES_ROOT,
        backend=SETTINGS.backend,
        definition=SETTINGS.definition,
    shell:
        "echo 'build       {wildcards.solution}' >&2; "
        "bakeoff build {params.folder:q} --arch {params.backend} --definition {params.definition} "
        "--traces {params.traces:q} -o {params.out} 2> {log} >&2"


rule compile:
    # Machine code and resource table of every kernel, for GPUs that need not be here. A solution that does not compile says so
    # in its build.json and in the report; the others go on.
    input:
        solution_files,
        harness_files("build"),
    output:
        f"{RUN}/build/{{solution}}/{{arch}}/build.json",
    log:
        f"{RUN}/logs/compile.{{solution}}.{{arch}}.log",
    params:
        out=lambda wildcards, output: str(Path(output[0]).parent),
        folder=solution_folder,
        traces=TRACES_ROOT,
    shell:
        "echo 'compile     {wildcards.solution} for {wildcards.arch}' >&2; "
        "bakeoff build {params.folder:q} --arch {wildcards.arch} --keep-going --traces {params.traces:q} -o {params.out} "
        "2> {log} >&2"


rule plan:
    input:
        expand(f"{RUN}/build/{{solution}}/solution.json", solution=SOLUTIONS),
        trace_files(),
        harness_files("traces", "schema", "core", "supervisor", "runs", "verify"),
        host=f"{RUN}/host.json",
    output:
        f"{RUN}/config.json",
    log:
        f"{RUN}/logs/plan.log",
    params:
        settings=canonical_json(ASKED.model_dump(mode="json")).decode(),
    shell:
        'echo "plan        the cells of $RUN" >&2; '
        "bakeoff plan --settings {params.settings:q} --host {input.host} -o {output} 2> {log}"
