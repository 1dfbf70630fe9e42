# Samples -> analysis -> report, for this run and for every published and recorded one; and the landing page over all.


rule analyse:
    localrule: True
    input:
        f"{RUN}/config.json",
        f"{RUN}/traces.jsonl",
        f"{RUN}/verification.jsonl",
        f"{RUN}/gate_power.json",
        COMPILED,
        PROFILE,
        harness_files("bakeoff.stats.verbs"),
    output:
        f"{RUN}/analysis.json",
    log:
        f"{RUN}/logs/analyse.log",
    params:
        bakeoff=bakeoff,
        run=above(1),
        wait=patience,
    shell:
        "echo 'analyse     '{params.run:q} >&2; "
        "{params.bakeoff} analyse {params.run:q} {params.wait} -o {output:q} 2> {log:q}"


rule report:
    localrule: True
    input:
        TEMPLATES,
        harness_files("bakeoff.report.verbs"),
        analysis=f"{RUN}/analysis.json",
    output:
        report(
            f"{RUN}/report/report.html",
            category="This run",
            labels={"page": "report"},
        ),
        f"{RUN}/report/report.md",
    log:
        f"{RUN}/logs/report.log",
    params:
        bakeoff=bakeoff,
        run=above(2),
        out=above(1),
    shell:
        "echo 'report      '{params.run:q} >&2; "
        "{params.bakeoff} report {input.analysis:q} -o {params.out:q} --home ../../../index.html 2> {log:q}"


rule select:
    localrule: True
    # Of a screening, on demand: what a run with `selection` confirms on fresh blocks.
    input:
        f"{RUN}/analysis.json",
        harness_files("bakeoff.stats.select"),
    output:
        f"{RUN}/selection.json",
    log:
        f"{RUN}/logs/select.log",
    params:
        bakeoff=bakeoff,
        run=above(1),
    shell:
        "echo 'select      the leading of '{params.run:q} >&2; "
        "{params.bakeoff} select {params.run:q} -o {output:q} 2> {log:q}"


# What all runs show is never removed, only replaced, since another run may be reading it.
rule analyse_committed:
    localrule: True
    input:
        committed_run,
        harness_files("bakeoff.stats.verbs"),
    output:
        update("results/rendered/{id}/analysis.json"),
    log:
        "results/rendered/{id}/logs/analyse.log",
    params:
        bakeoff=bakeoff,
        folder=committed_folder,
    shell:
        "echo 'analyse     '{params.folder:q} >&2; "
        "{params.bakeoff} analyse {params.folder:q} -o {output:q} 2> {log:q}"


rule report_committed:
    localrule: True
    input:
        TEMPLATES,
        harness_files("bakeoff.report.verbs"),
        analysis="results/rendered/{id}/analysis.json",
    output:
        report(
            update("results/rendered/{id}/report.html"),
            category="Recorded and published",
            labels={"page": "{id}"},
        ),
        update("results/rendered/{id}/report.md"),
    log:
        "results/rendered/{id}/logs/report.log",
    params:
        bakeoff=bakeoff,
        out=above(1),
        beside=beside,
    shell:
        "echo 'report      '{params.out:q} >&2; "
        "{params.bakeoff} report {input.analysis:q} -o {params.out:q} --home ../../index.html {params.beside:q} 2> {log:q}"


rule index:
    localrule: True
    # The landing page twice: the run's own, which no other run overwrites, and that of the checkout.
    input:
        TEMPLATES,
        harness_files("bakeoff.report.verbs"),
        lambda wildcards: [f"results/rendered/{name}/report.html" for name in SHOWN],
        f"{RUN}/report/report.html",
        own=f"{RUN}/analysis.json",
        committed=lambda wildcards: [
            f"results/rendered/{name}/analysis.json" for name in SHOWN
        ],
    output:
        own=f"{RUN}/index.html",
        shared=update("results/index.html"),
    log:
        f"{RUN}/logs/index.log",
    params:
        bakeoff=bakeoff,
        # Other runs may end, or go, at any moment: they are no input, and one that cannot be read is left out.
        made=[made for path, made in neighbours()],
        others=[path for path, made in neighbours()],
    shell:
        "echo 'index       '{output.shared:q} >&2; "
        "{params.bakeoff} index --out {output.own:q} --out {output.shared:q} {input.own:q} {input.committed:q} "
        "--others {params.others:q} 2> >(tee {log:q} >&2)"


rule verdict:
    localrule: True
    # Last, so that a run with a failed cell still has its report.
    input:
        f"{RUN}/config.json",
        f"{RUN}/traces.jsonl",
        f"{RUN}/verification.jsonl",
        f"{RUN}/report/report.html",
        f"{RUN}/index.html",
    output:
        own=report(
            f"{RUN}/verdict.txt", category="This run", labels={"page": "verdict"}
        ),
        shared=update("results/verdict.txt"),
    log:
        f"{RUN}/logs/verify.log",
    params:
        bakeoff=bakeoff,
        run=above(1),
        name=SETTINGS.run,
    shell:
        "echo 'verify      '{params.run:q} >&2; "
        "{params.bakeoff} verify {params.run:q} 2> >(tee {log:q} >&2) > {output.own:q}.tmp && "
        "sed 's/$/; run '{params.name:q}/ {output.own:q}.tmp > {output.shared:q}.{params.name:q}.tmp && "
        "mv {output.shared:q}.{params.name:q}.tmp {output.shared:q} && mv {output.own:q}.tmp {output.own:q}"
