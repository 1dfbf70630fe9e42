# The bake-off: build -> measure -> verify -> assemble -> analyse -> report. `snakemake --cores all` makes everything;
# the rules are calls of `bakeoff` verbs, so each step also runs alone. What a run is stands in config/config.yaml.
include: "workflow/rules/bakeoff.smk"


rule all:
    input:
        EVERYTHING,
