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
        factors="<results>/{atlas}/fits/{model}/k{k}/consensus/factors.h5ad",
    output:
        embedding=picture("embedding_{model}_k{k}", "embedding"),
        loadings=picture("loadings_{model}_k{k}", "loadings"),
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
        picture("training_{model}_k{k}", "training"),
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
        metrics=picture("scores", "scores"),
        sparsity=picture("sparsity", "sparsity"),
        stability=picture("stability", "stability"),
        tbr=(picture("tbr", "tbr") if CONFIG.tbr else []),
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
        picture("n_factors", "n_factors"),
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


rule draw_factor_pages:
    input:
        genes="<results>/{atlas}/tables/genes.tsv",
        enrichment="<results>/{atlas}/tables/enrichment.tsv",
        usage="<results>/{atlas}/tables/usage.tsv",
        consensus="<results>/{atlas}/tables/consensus.tsv",
    output:
        svg=report(
            factor_pages("svg"), caption="../report/factors.rst", category="{atlas}"
        ),
        png=factor_pages("png"),
    log:
        "<logs>/{atlas}/draw_factor_pages.log",
    group:
        "pictures"
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=minutes(15),
    params:
        code=code("draw_factor_pages.py"),
        fits=DRAWN,
    script:
        "../../scripts/draw_factor_pages.py"


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
        sparsity="<results>/{atlas}/figures/sparsity.svg",
        factors=factor_pages("svg"),
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
