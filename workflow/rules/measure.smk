# One job per block: the supervisor inside keeps the order, the isolation and the journal.


ONE_BLOCK_PER_GPU = {
    f"gpu{number}": lambda wildcards, number=number: int(
        int(wildcards.block) % SETTINGS.gpus == number
    )
    for number in range(SETTINGS.gpus)
}


rule measure:
    input:
        f"{RUN}/config.json",
        f"{RUN}/host.json",
        # Waited for, since a shared file system may show them late.
        expand(f"{RUN}/build/{{solution}}/solution.json", solution=SOLUTIONS),
        # Nothing is built beside a measurement that counts.
        COMPILED if SETTINGS.backend != "cpu" else [],
    output:
        f"{RUN}/samples/block-{{block}}/manifest.json",
    log:
        f"{RUN}/logs/measure.{{block}}.log",
    threads: MEASURES
    resources:
        # Blocks of one GPU follow each other, however Snakemake orders them.
        **({} if JOBS else ONE_BLOCK_PER_GPU),
        gpu=1 if not JOBS else GPUS,
    params:
        bakeoff=bakeoff,
        run=above(3),
        block=lambda wildcards: int(wildcards.block),
    shell:
        # Progress stays visible and is kept.
        "echo 'measure     block '{wildcards.block:q} >&2; "
        "rm -f {params.run:q}/verdict.txt {params.run:q}/../../verdict.txt; "
        "{params.bakeoff} measure {params.run:q} --block {params.block} 2> >(tee {log:q} >&2)"


rule gate_power:
    input:
        trace_files(),
        harness_files("bakeoff.verify.power"),
    output:
        f"{RUN}/gate_power.json",
    log:
        f"{RUN}/logs/gate_power.log",
    resources:
        gpu=GPUS if JOBS else GPUS * SETTINGS.gpus,
    params:
        bakeoff=bakeoff,
        definition=SETTINGS.definition,
        # A GPU run is of the full definition: the reference and all its mutants are too much for a CPU.
        traces=TRACES_ROOT,
        device="cpu" if SETTINGS.backend == "cpu" else "cuda",
        chosen=(
            [] if SETTINGS.workloads == "all" else ["--workloads", *SETTINGS.workloads]
        ),
    shell:
        "echo 'gate-power  planted mistakes against both gates' >&2; "
        "{params.bakeoff} gate-power --definition {params.definition:q} --traces-root {params.traces:q} --device {params.device} "
        "{params.chosen:q} -o {output:q} 2> >(tee {log:q} >&2)"


rule assemble:
    localrule: True
    input:
        f"{RUN}/config.json",
        expand(f"{RUN}/samples/block-{{block}}/manifest.json", block=BLOCKS),
        harness_files("bakeoff.runs.assemble"),
    output:
        f"{RUN}/traces.jsonl",
        f"{RUN}/verification.jsonl",
    log:
        f"{RUN}/logs/assemble.log",
    params:
        bakeoff=bakeoff,
        run=above(1),
        wait=patience,
    shell:
        "echo 'assemble    '{params.run:q} >&2; "
        "rm -f {params.run:q}/verdict.txt {params.run:q}/../../verdict.txt; "
        "{params.bakeoff} assemble {params.run:q} {params.wait} 2> {log:q}"
