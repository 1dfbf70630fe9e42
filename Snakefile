# The bake-off: build -> measure -> verify -> assemble -> analyse -> report. `snakemake --cores all` makes everything;
# the rules are calls of `bakeoff` verbs, so each step also runs alone. What a run is stands in config/config.yaml.
include: "workflow/rules/bakeoff.smk"


rule all:
    input:
        EVERYTHING,


onsuccess:
    # Removed when a run starts: what is there is of this one, or of one that is complete.
    if os.path.isfile("results/verdict.txt"):
        with open("results/verdict.txt") as verdict:
            print(f"verdict: {verdict.read().strip()}; results: results/index.html")
