# Traces -> analysis -> report, for this run and for every published and recorded one; and the landing page over all.


rule analyse:
    input:
        f"{RUN}/config.json",
        f"{RUN}/traces.jsonl",
        f"{RUN}/verification.jsonl",
        f"{RUN}/gate_power.json",
        COMPILED,
        PROFILE,
        harness_files("schema", "stats", "profile"),
    output:
        f"{RUN}/analysis.json",
    log:
        f"{RUN}/logs/analyse.log",
    shell:
        'echo "analyse     $RUN" >&2; '
        "bakeoff analyse $RUN -o {output} 2> {log}"


rule report:
    input:
        TEMPLATES,
        harness_files("schema", "report"),
        analysis=f"{RUN}/analysis.json",
    output:
        f"{RUN}/report/report.html",
        f"{RUN}/report/report.md",
    log:
        f"{RUN}/logs/report.log",
    params:
        out=lambda wildcards, output: str(Path(output[0]).parent),
    shell:
        'echo "report      $RUN" >&2; '
        "bakeoff report {input.analysis} -o {params.out} 2> {log}"


rule analyse_committed:
    input:
        committed_run,
        harness_files("schema", "stats", "profile"),
    output:
        "results/rendered/{id}/analysis.json",
    log:
        "results/rendered/{id}/logs/analyse.log",
    params:
        folder=committed_folder,
    shell:
        "echo 'analyse     {params.folder}' >&2; "
        "bakeoff analyse {params.folder} -o {output} 2> {log}"


rule report_committed:
    input:
        TEMPLATES,
        harness_files("schema", "report"),
        analysis="results/rendered/{id}/analysis.json",
    output:
        "results/rendered/{id}/report.html",
        "results/rendered/{id}/report.md",
    log:
        "results/rendered/{id}/logs/report.log",
    params:
        out=lambda wildcards, output: str(Path(output[0]).parent),
    shell:
        "echo 'report      results/rendered/{wildcards.id}' >&2; "
        "bakeoff report {input.analysis} -o {params.out} 2> {log}"


rule index:
    input:
        analyses=[f"{folder}/analysis.json" for folder in [RUN, *OTHERS]]
        + [f"results/rendered/{name}/analysis.json" for name in RECORDED + PUBLISHED],
        reports=[f"{RUN}/report/report.html"]
        + [f"results/rendered/{name}/report.html" for name in RECORDED + PUBLISHED],
        code=TEMPLATES + harness_files("schema", "report"),
    output:
        "results/index.html",
    log:
        "results/runs/index.log",
    shell:
        "echo 'index       results/index.html' >&2; "
        "bakeoff index --out {output} {input.analyses} 2> {log}"


rule verdict:
    # Last, so that a run with a failed cell still has its report.
    input:
        f"{RUN}/config.json",
        f"{RUN}/traces.jsonl",
        f"{RUN}/verification.jsonl",
        f"{RUN}/report/report.html",
        "results/index.html",
    output:
        "results/verdict.txt",
    log:
        f"{RUN}/logs/verify.log",
    shell:
        'echo "verify      $RUN" >&2; '
        "bakeoff verify $RUN 2> >(tee {log} >&2) > {output}.tmp && mv {output}.tmp {output}"
