# Tree-based regularisation of a measured phenotype; runs only where tbr.phenotype names a column.
MEASURED_PHENOTYPE = CONFIG.tbr is not None and CONFIG.tbr.phenotype.kind == "measured"
if MEASURED_PHENOTYPE:
    TBR_TABLES = {
        "scores": "tbr",
        "changes": "tbr_changes",
        "genes": "tbr_genes",
        "identifiability": "tbr_identifiability",
    }

    # early and by itself, so that a wrong column is known before hours of other jobs
    rule read_phenotype:
        input:
            atlas="<results>/{atlas}/atlas.h5ad",
        output:
            "<results>/{atlas}/tables/tbr_phenotype.tsv",
        log:
            "<logs>/{atlas}/read_phenotype.log",
        priority: 100
        conda:
            "../../envs/atlas.yaml"
        resources:
            mem_mb=memory(1000),
            runtime=minutes(10),
        params:
            code=code("read_phenotype.py"),
            phenotype=settings(CONFIG.tbr.phenotype),
        script:
            "../../scripts/read_phenotype.py"

    rule fit_tbr_measured:
        input:
            atlas="<results>/{atlas}/atlas.h5ad",
            cells="<results>/{atlas}/environments/cells.h5ad",
            tree="<results>/{atlas}/environments/tree.tsv",
            phenotype="<results>/{atlas}/tables/tbr_phenotype.tsv",
            regulators=[located(CONFIG.tbr.regulators)] if CONFIG.tbr.regulators else [],
        output:
            scores="<results>/{atlas}/tbr/{estimator}/scores.tsv",
            weights="<results>/{atlas}/tbr/{estimator}/weights.tsv",
            changes="<results>/{atlas}/tbr/{estimator}/changes.tsv",
            genes="<results>/{atlas}/tbr/{estimator}/genes.tsv",
            identifiability="<results>/{atlas}/tbr/{estimator}/identifiability.tsv",
            latents="<results>/{atlas}/tbr/{estimator}/latents.h5ad",
        log:
            "<logs>/{atlas}/fit_tbr_measured/{estimator}.log",
        benchmark:
            "<benchmarks>/{atlas}/fit_tbr_measured/{estimator}.tsv"
        conda:
            "../../envs/torch.yaml"
        threads: 1
        resources:
            mem_mb=memory(2000, 20),
            runtime=minutes(60, 120),
        params:
            code=code("fit_tbr_measured.py"),
            tbr=settings(CONFIG.tbr, exclude={"estimators", "held_out", "latents"}),
            seeds=CONFIG.seeds,
        script:
            "../../scripts/fit_tbr_measured.py"

    rule collect_tbr_measured:
        input:
            **{
                name: expand(
                    f"<results>/{{{{atlas}}}}/tbr/{{estimator}}/{name}.tsv",
                    estimator=CONFIG.tbr.estimators,
                )
                for name in TBR_TABLES
            },
        output:
            **{
                name: report(
                    f"<results>/{{atlas}}/tables/{table}.tsv",
                    caption="../report/tbr_measured.rst",
                    category="{atlas}",
                )
                for name, table in TBR_TABLES.items()
            },
        log:
            "<logs>/{atlas}/collect_tbr_measured.log",
        conda:
            "../../envs/report.yaml"
        resources:
            mem_mb=memory(1000),
            runtime=minutes(10),
        params:
            code=code("collect_tbr_measured.py"),
        script:
            "../../scripts/collect_tbr_measured.py"

    rule draw_tbr_tree:
        input:
            tree="<results>/{atlas}/environments/tree.tsv",
            changes="<results>/{atlas}/tables/tbr_changes.tsv",
        output:
            picture("tbr_tree", "tbr_measured"),
        log:
            "<logs>/{atlas}/draw_tbr_tree.log",
        group:
            "pictures"
        conda:
            "../../envs/report.yaml"
        resources:
            mem_mb=memory(1000),
            runtime=minutes(5),
        params:
            code=code("draw_tbr_tree.py"),
        script:
            "../../scripts/draw_tbr_tree.py"
