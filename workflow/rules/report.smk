# Pictures and the page that a person reads.
FIRST_SEED = CONFIG.seeds[:1]
# tables of tree-based regularisation beside tbr.tsv
TBR_MORE = []
if MEASURED_PHENOTYPE:
    TBR_MORE = ["tbr_identifiability", "tbr_changes", "tbr_genes", "tbr_phenotype"]
elif CONFIG.tbr:
    TBR_MORE = ["tbr_identifiability", "tbr_transfer"]


rule draw_fit:
    input:
        factors=f"<results>/{{atlas}}/fits/{{model}}/k{{k}}/seed{FIRST_SEED[0]}/factors.h5ad",
    output:
        embedding=report(
            "<results>/{atlas}/figures/embedding_{model}_k{k}.svg",
            caption="../report/embedding.rst",
            category="{atlas}",
        ),
        loadings=report(
            "<results>/{atlas}/figures/loadings_{model}_k{k}.svg",
            caption="../report/loadings.rst",
            category="{atlas}",
        ),
    log:
        "<logs>/{atlas}/draw_fit/{model}.k{k}.log",
    group:
        "pictures"
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=memory(1500, 10),
        runtime=minutes(5),
    params:
        code=code("draw_fit.py"),
    script:
        "../../scripts/draw_fit.py"


rule draw_training:
    input:
        f"<results>/{{atlas}}/fits/{{model}}/k{{k}}/seed{FIRST_SEED[0]}/history.tsv",
    output:
        report(
            "<results>/{atlas}/figures/training_{model}_k{k}.svg",
            caption="../report/training.rst",
            category="{atlas}",
        ),
    log:
        "<logs>/{atlas}/draw_training/{model}.k{k}.log",
    wildcard_constraints:
        model=one_of(TORCH_MODELS),
    group:
        "pictures"
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=minutes(5),
    params:
        code=code("draw_training.py"),
    script:
        "../../scripts/draw_training.py"


rule draw_tables:
    input:
        metrics="<results>/{atlas}/tables/metrics.tsv",
        stability="<results>/{atlas}/tables/stability.tsv",
        tbr="<results>/{atlas}/tables/tbr.tsv" if CONFIG.tbr else [],
    output:
        metrics=report(
            "<results>/{atlas}/figures/scores.svg",
            caption="../report/scores.rst",
            category="{atlas}",
        ),
        stability=report(
            "<results>/{atlas}/figures/stability.svg",
            caption="../report/stability.rst",
            category="{atlas}",
        ),
        tbr=(
            report(
                "<results>/{atlas}/figures/tbr.svg",
                caption="../report/tbr.rst",
                category="{atlas}",
            )
            if CONFIG.tbr
            else []
        ),
    log:
        "<logs>/{atlas}/draw_tables.log",
    group:
        "pictures"
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=minutes(5),
    params:
        code=code("draw_tables.py"),
    script:
        "../../scripts/draw_tables.py"


rule draw_n_factors:
    input:
        "<results>/{atlas}/tables/n_factors.tsv",
    output:
        report(
            "<results>/{atlas}/figures/n_factors.svg",
            caption="../report/n_factors.rst",
            category="{atlas}",
        ),
    log:
        "<logs>/{atlas}/draw_n_factors.log",
    group:
        "pictures"
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=minutes(5),
    params:
        code=code("draw_n_factors.py"),
    script:
        "../../scripts/draw_n_factors.py"


rule write_report:
    input:
        qc="<results>/{atlas}/qc.json",
        tree="<results>/{atlas}/figures/tree.svg",
        metrics="<results>/{atlas}/tables/metrics.tsv",
        genes="<results>/{atlas}/tables/genes.tsv",
        enrichment="<results>/{atlas}/tables/enrichment.tsv",
        enrichment_summary="<results>/{atlas}/tables/enrichment_summary.tsv",
        enrichment_notes="<results>/{atlas}/tables/enrichment_notes.json",
        usage_table="<results>/{atlas}/tables/usage.tsv",
        conditions_table=condition_table,
        stability="<results>/{atlas}/tables/stability.tsv",
        tbr="<results>/{atlas}/tables/tbr.tsv" if CONFIG.tbr else [],
        tbr_more=[f"<results>/{{atlas}}/tables/{name}.tsv" for name in TBR_MORE],
        summaries=fit_files("fit.json"),
        embeddings=fits(
            "<results>/{atlas}/figures/embedding_{model}_k{k}.svg", FIRST_SEED
        ),
        loadings=fits("<results>/{atlas}/figures/loadings_{model}_k{k}.svg", FIRST_SEED),
        training=fits(
            "<results>/{atlas}/figures/training_{model}_k{k}.svg",
            FIRST_SEED,
            TORCH_MODELS,
        ),
        usage=pictures("usage"),
        conditions=condition_pictures,
        umaps=pictures("umap") if CONFIG.downstream.umap else [],
        groups=fits(
            "<results>/{atlas}/figures/groups_{model}_k{k}.svg",
            FIRST_SEED,
            GROUP_MODELS,
        ),
        group_summary=(
            "<results>/{atlas}/tables/group_summary.tsv" if GROUP_MODELS else []
        ),
        scores="<results>/{atlas}/figures/scores.svg",
        stability_picture="<results>/{atlas}/figures/stability.svg",
        consensus="<results>/{atlas}/tables/consensus.tsv",
        n_factors="<results>/{atlas}/tables/n_factors.tsv",
        n_factors_picture="<results>/{atlas}/figures/n_factors.svg",
        tbr_picture="<results>/{atlas}/figures/tbr.svg" if CONFIG.tbr else [],
        tbr_tree=(
            "<results>/{atlas}/figures/tbr_tree.svg" if MEASURED_PHENOTYPE else []
        ),
    output:
        report(
            "<results>/{atlas}/report.html",
            caption="../report/report.rst",
            category="{atlas}",
        ),
    log:
        "<logs>/{atlas}/write_report.log",
    group:
        "pictures"
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=memory(1000, 10),
        runtime=minutes(5),
    params:
        code=code("write_report.py"),
        # this atlas's part of the config: another atlas, the papers' experiments and a cluster's limits change
        # nothing here
        config=lambda wildcards: settings(
            CONFIG, exclude={"reproduction", "resources"}
        )
        | {"atlases": {wildcards.atlas: atlas_config(wildcards.atlas)}},
    script:
        "../../scripts/write_report.py"
