# The bake-off: build -> measure -> verify -> assemble -> analyse -> report. `snakemake --cores all` makes everything;
# the rules are calls of `bakeoff` verbs, so each step also runs alone. What a run is stands in config/config.yaml.
from snakemake.utils import min_version

min_version("9.27.1")


include: "workflow/rules/messages.smk"


configfile: "config/config.yaml"


include: "workflow/rules/common.smk"


# Every rule carries the image by its digest (containers/images.lock.yaml); `--sdm apptainer` runs the rules in it.
container: images.reference(IMAGE_NAME, IMAGE)


include: "workflow/rules/build.smk"
include: "workflow/rules/measure.smk"
include: "workflow/rules/profile.smk"
include: "workflow/rules/report.smk"


# One GPU job at a time. A rule's `gpu=1` alone would not serialise anything.
workflow.global_resources.setdefault("gpu", SETTINGS.gpus)


rule all:
    input:
        "results/index.html",
        "results/verdict.txt",
    default_target: True
