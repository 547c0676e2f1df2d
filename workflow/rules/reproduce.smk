# The papers' experiments; `snakemake reproduce` (or `make reproduce`) asks for them, the ordinary run does not.


rule run_experiment:
    input:
        experiment_data,
    output:
        measurements=f"<results>/{REPRODUCTION}/parts/{{experiment}}/{{part}}.tsv",
        samples=f"<results>/{REPRODUCTION}/parts/{{experiment}}/{{part}}.samples.tsv",
    log:
        f"<logs>/{REPRODUCTION}/run_experiment/{{experiment}}.{{part}}.log",
    benchmark:
        f"<benchmarks>/{REPRODUCTION}/run_experiment/{{experiment}}.{{part}}.tsv"
    wildcard_constraints:
        experiment=one_of(EXPERIMENTS),
        part=r"\w+",
    conda:
        "../../envs/reproduction.yaml"
    threads: 1
    resources:
        mem_mb=memory(2500, 30),
        runtime=minutes(60),
    params:
        code=experiment_code,
        reproduction=experiment_settings,
    script:
        "../../scripts/run_experiment.py"


rule summarise_reproduction:
    input:
        experiment_files("tsv"),
    output:
        f"<results>/{REPRODUCTION}/summary.tsv",
    log:
        f"<logs>/{REPRODUCTION}/summarise_reproduction.log",
    conda:
        "../../envs/reproduction.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=minutes(10),
    params:
        code=code("summarise_reproduction.py"),
    script:
        "../../scripts/summarise_reproduction.py"


rule draw_experiment:
    input:
        lambda wildcards: [
            file
            for file in experiment_files("samples.tsv")
            if f"/parts/{wildcards.experiment}/" in file
        ],
    output:
        f"<results>/{REPRODUCTION}/figures/{{experiment}}.svg",
    log:
        f"<logs>/{REPRODUCTION}/draw_experiment/{{experiment}}.log",
    wildcard_constraints:
        experiment=one_of(EXPERIMENTS),
    conda:
        "../../envs/reproduction.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=minutes(10),
    params:
        code=code("draw_experiment.py"),
    script:
        "../../scripts/draw_experiment.py"


rule write_reproduction_page:
    input:
        summary=f"<results>/{REPRODUCTION}/summary.tsv",
        figures=[
            f"<results>/{REPRODUCTION}/figures/{name}.svg"
            for name, experiment in EXPERIMENTS.items()
            if experiment.figure is not None
        ],
    output:
        f"<results>/{REPRODUCTION}/reproduction.md",
    log:
        f"<logs>/{REPRODUCTION}/write_reproduction_page.log",
    conda:
        "../../envs/reproduction.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=minutes(10),
    params:
        code=code("write_reproduction_page.py"),
        quick=CONFIG.reproduction.quick,
    script:
        "../../scripts/write_reproduction_page.py"


rule reproduce:
    input:
        f"<results>/{REPRODUCTION}/reproduction.md",
