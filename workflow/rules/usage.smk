# Programs across cells: by cell type, and between conditions where an atlas names them.


# (model, n_factors) of what is drawn, the consensus over seeds, in the order of its pictures
DRAWN = [
    (model, k)
    for model, chosen in CONFIG.models.listed().items()
    for k in chosen.n_factors
]


rule measure_usage:
    input:
        factors=described_files("factors.h5ad"),
        summaries=described_files("fit.json"),
    output:
        report(
            "<results>/{atlas}/tables/usage.tsv",
            caption="../report/usage.rst",
            category="{atlas}",
        ),
    log:
        "<logs>/{atlas}/measure_usage.log",
    group:
        "tables"
    conda:
        "../../envs/downstream.yaml"
    resources:
        mem_mb=memory(1000, 5),
        runtime=minutes(10),
    params:
        code=code("measure_usage.py"),
    script:
        "../../scripts/measure_usage.py"


rule compare_conditions:
    input:
        atlas="<results>/{atlas}/atlas.h5ad",
        factors=described_files("factors.h5ad"),
        summaries=described_files("fit.json"),
    output:
        report(
            "<results>/{atlas}/tables/conditions.tsv",
            caption="../report/conditions.rst",
            category="{atlas}",
        ),
    log:
        "<logs>/{atlas}/compare_conditions.log",
    group:
        "tables"
    conda:
        "../../envs/downstream.yaml"
    resources:
        mem_mb=memory(1500, 5),
        runtime=minutes(15),
    params:
        code=code("compare_conditions.py"),
        columns=lambda wildcards: settings(
            CONFIG.atlases[wildcards.atlas],
            include={"condition", "sample", "reference"},
        ),
    script:
        "../../scripts/compare_conditions.py"


rule draw_usage:
    input:
        "<results>/{atlas}/tables/usage.tsv",
    output:
        svg=report(pictures("usage"), caption="../report/usage.rst", category="{atlas}"),
        png=pictures("usage", "png"),
    log:
        "<logs>/{atlas}/draw_usage.log",
    group:
        "pictures"
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=minutes(5),
    params:
        code=code("draw_usage.py"),
        fits=DRAWN,
    script:
        "../../scripts/draw_usage.py"


rule draw_conditions:
    input:
        "<results>/{atlas}/tables/conditions.tsv",
    output:
        svg=report(
            pictures("conditions"),
            caption="../report/conditions.rst",
            category="{atlas}",
        ),
        png=pictures("conditions", "png"),
    log:
        "<logs>/{atlas}/draw_conditions.log",
    group:
        "pictures"
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=minutes(5),
    params:
        code=code("draw_conditions.py"),
        fits=DRAWN,
    script:
        "../../scripts/draw_conditions.py"


rule draw_umaps:
    input:
        consensus_files("factors.h5ad"),
    output:
        svg=report(pictures("umap"), caption="../report/umap.rst", category="{atlas}"),
        png=pictures("umap", "png"),
    log:
        "<logs>/{atlas}/draw_umaps.log",
    group:
        "pictures"
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=memory(2000, 10),
        runtime=minutes(15),
    params:
        code=code("draw_umaps.py"),
        fits=DRAWN,
    script:
        "../../scripts/draw_umaps.py"
