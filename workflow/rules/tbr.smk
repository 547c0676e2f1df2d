# Tree-based regularisation; runs only where the config has the key tbr.
if CONFIG.tbr and CONFIG.tbr.phenotype.kind == "simulated":

    rule fit_tbr:
        input:
            cells="<results>/{atlas}/environments/cells.h5ad",
            tree="<results>/{atlas}/environments/tree.tsv",
            regulators=[located(CONFIG.tbr.regulators)] if CONFIG.tbr.regulators else [],
        output:
            scores="<results>/{atlas}/tbr/{estimator}/scores.tsv",
            weights="<results>/{atlas}/tbr/{estimator}/weights.tsv",
            changes="<results>/{atlas}/tbr/{estimator}/changes.tsv",
            latents="<results>/{atlas}/tbr/{estimator}/latents.h5ad",
            transfer="<results>/{atlas}/tbr/{estimator}/transfer.tsv",
            identifiability="<results>/{atlas}/tbr/{estimator}/identifiability.tsv",
        log:
            "<logs>/{atlas}/fit_tbr/{estimator}.log",
        benchmark:
            "<benchmarks>/{atlas}/fit_tbr/{estimator}.tsv"
        conda:
            "../../envs/torch.yaml"
        threads: 1
        resources:
            mem_mb=memory(2000, 20),
            runtime=minutes(60, 120),
        params:
            code=code("fit_tbr.py"),
            tbr=settings(CONFIG.tbr, exclude={"estimators"}),
            seeds=CONFIG.seeds,
        script:
            "../../scripts/fit_tbr.py"

    rule collect_tbr:
        input:
            scores=expand(
                "<results>/{{atlas}}/tbr/{estimator}/scores.tsv",
                estimator=CONFIG.tbr.estimators,
            ),
            transfer=expand(
                "<results>/{{atlas}}/tbr/{estimator}/transfer.tsv",
                estimator=CONFIG.tbr.estimators,
            ),
            identifiability=expand(
                "<results>/{{atlas}}/tbr/{estimator}/identifiability.tsv",
                estimator=CONFIG.tbr.estimators,
            ),
        output:
            scores=report(
                "<results>/{atlas}/tables/tbr.tsv",
                caption="../report/tbr.rst",
                category="{atlas}",
            ),
            transfer="<results>/{atlas}/tables/tbr_transfer.tsv",
            identifiability="<results>/{atlas}/tables/tbr_identifiability.tsv",
        log:
            "<logs>/{atlas}/collect_tbr.log",
        conda:
            "../../envs/report.yaml"
        resources:
            mem_mb=memory(1000),
            runtime=minutes(10),
        params:
            code=code("collect_tbr.py"),
        script:
            "../../scripts/collect_tbr.py"
