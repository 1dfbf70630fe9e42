# Traces -> analysis -> report, for this run and for every published and recorded one; and the landing page over all.

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


rule analyse:
    input:
        f"{RUN}/config.json",
        f"{RUN}/traces.jsonl",
        f"{RUN}/verification.jsonl",
        f"{RUN}/gate_power.json",
        COMPILED,
        PROFILE,
        harness_files("stats"),
    output:
        f"{RUN}/analysis.json",
    log:
        f"{RUN}/logs/analyse.log",
    shell:
        "echo 'analyse     {RUN}' >&2; "
        "{BAKEOFF} analyse {RUN} -o {output} 2> {log}"


rule report:
    input:
        f"{RUN}/analysis.json",
        TEMPLATES,
        harness_files("report"),
    output:
        f"{RUN}/report/report.html",
        f"{RUN}/report/report.md",
    log:
        f"{RUN}/logs/report.log",
    params:
        out=lambda wildcards, output: str(Path(output[0]).parent),
    shell:
        "echo 'report      {RUN}' >&2; "
        "{BAKEOFF} report {input[0]} -o {params.out} 2> {log}"


rule analyse_committed:
    input:
        committed_run,
        harness_files("stats"),
    output:
        "results/rendered/{id}/analysis.json",
    log:
        "results/rendered/{id}/logs/analyse.log",
    params:
        folder=committed_folder,
    shell:
        "echo 'analyse     {params.folder}' >&2; "
        "{BAKEOFF} analyse {params.folder} -o {output} 2> {log}"


rule report_committed:
    input:
        "results/rendered/{id}/analysis.json",
        TEMPLATES,
        harness_files("report"),
    output:
        "results/rendered/{id}/report.html",
        "results/rendered/{id}/report.md",
    log:
        "results/rendered/{id}/logs/report.log",
    params:
        out=lambda wildcards, output: str(Path(output[0]).parent),
    shell:
        "echo 'report      results/rendered/{wildcards.id}' >&2; "
        "{BAKEOFF} report {input[0]} -o {params.out} 2> {log}"


rule index:
    input:
        analyses=[f"{folder}/analysis.json" for folder in [RUN, *OTHERS]]
        + [f"results/rendered/{name}/analysis.json" for name in RECORDED + PUBLISHED],
        reports=[f"{RUN}/report/report.html"]
        + [f"results/rendered/{name}/report.html" for name in RECORDED + PUBLISHED],
        code=TEMPLATES + harness_files("report"),
    output:
        "results/index.html",
    log:
        "results/runs/index.log",
    shell:
        "echo 'index       results/index.html' >&2; "
        "{BAKEOFF} index --out {output} {input.analyses} 2> {log}"


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
        "echo 'verify      {RUN}' >&2; "
        "{BAKEOFF} verify {RUN} 2> >(tee {log} >&2) > {output}.tmp && mv {output}.tmp {output}"
