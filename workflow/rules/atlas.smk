# From a lab's file to a validated, normalised, split atlas.


rule download_atlas:
    output:
        "<results>/{atlas}/source.h5ad",
    log:
        "<logs>/{atlas}/download_atlas.log",
    conda:
        "../../envs/atlas.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=minutes(120),
    params:
        code=code("download_atlas.py"),
        url=lambda wildcards: CONFIG.atlases[wildcards.atlas].path,
        sha256=lambda wildcards: CONFIG.atlases[wildcards.atlas].sha256,
    script:
        "../../scripts/download_atlas.py"


rule prepare_atlas:
    input:
        source=atlas_source,
    output:
        atlas="<results>/{atlas}/atlas.h5ad",
        qc="<results>/{atlas}/qc.json",
    log:
        "<logs>/{atlas}/prepare_atlas.log",
    benchmark:
        "<benchmarks>/{atlas}/prepare_atlas.tsv"
    conda:
        "../../envs/atlas.yaml"
    resources:
        mem_mb=memory(1500, 30),
        runtime=minutes(15),
    params:
        code=code("prepare_atlas.py"),
        atlas=atlas_settings,
        preprocess=settings(CONFIG.preprocess),
        min_cells_per_type=CONFIG.environments.min_cells_per_type,
    script:
        "../../scripts/prepare_atlas.py"
