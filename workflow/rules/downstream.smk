# Tables over all fits of an atlas.


rule score_fits:
    input:
        atlas="<results>/{atlas}/atlas.h5ad",
        factors=described_files("factors.h5ad"),
        summaries=described_files("fit.json"),
    output:
        report(
            "<results>/{atlas}/tables/metrics.tsv",
            caption="../report/metrics.rst",
            category="{atlas}",
        ),
    log:
        "<logs>/{atlas}/score_fits.log",
    conda:
        "../../envs/torch.yaml"
    resources:
        mem_mb=memory(2000, 10),
        runtime=minutes(30),
    params:
        code=code("score_fits.py"),
        batch=lambda wildcards: CONFIG.atlases[wildcards.atlas].batch,
    script:
        "../../scripts/score_fits.py"


rule list_genes:
    input:
        factors=described_files("factors.h5ad"),
        summaries=described_files("fit.json"),
    output:
        report(
            "<results>/{atlas}/tables/genes.tsv",
            caption="../report/genes.rst",
            category="{atlas}",
        ),
    log:
        "<logs>/{atlas}/list_genes.log",
    group:
        "tables"
    conda:
        "../../envs/downstream.yaml"
    resources:
        mem_mb=memory(1000, 5),
        runtime=minutes(10),
    params:
        code=code("list_genes.py"),
        downstream=settings(CONFIG.downstream, include={"n_top_genes"}),
    script:
        "../../scripts/list_genes.py"


rule compare_fits:
    input:
        atlas="<results>/{atlas}/atlas.h5ad",
        factors=fit_files("factors.h5ad"),
        summaries=fit_files("fit.json"),
        refits=refit_files("factors.h5ad"),
        refit_summaries=refit_files("fit.json"),
    output:
        report(
            "<results>/{atlas}/tables/stability.tsv",
            caption="../report/stability.rst",
            category="{atlas}",
        ),
    log:
        "<logs>/{atlas}/compare_fits.log",
    conda:
        "../../envs/torch.yaml"
    resources:
        mem_mb=memory(1500, 10),
        runtime=minutes(20),
    params:
        code=code("compare_fits.py"),
        first_seed=CONFIG.seeds[0],
    script:
        "../../scripts/compare_fits.py"


rule fetch_library:
    output:
        "<results>/gene_sets/{library}.gmt",
    log:
        "<logs>/gene_sets/{library}.log",
    wildcard_constraints:
        library=one_of(
            {
                library_name(entry)
                for atlas in CONFIG.atlases.values()
                for entry in atlas.gene_sets
                if library_name(entry)
            }
        ),
    conda:
        "../../envs/downstream.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=minutes(30),
    params:
        code=code("fetch_library.py"),
        address=CONFIG.downstream.enrichment.library_address,
    script:
        "../../scripts/fetch_library.py"


rule list_consensus:
    input:
        parts=consensus_files("stability.tsv"),
        stability="<results>/{atlas}/tables/stability.tsv",
    output:
        report(
            "<results>/{atlas}/tables/consensus.tsv",
            caption="../report/consensus.rst",
            category="{atlas}",
        ),
    log:
        "<logs>/{atlas}/list_consensus.log",
    group:
        "tables"
    conda:
        "../../envs/downstream.yaml"
    resources:
        mem_mb=memory(1000, 5),
        runtime=minutes(5),
    params:
        code=code("list_consensus.py"),
    script:
        "../../scripts/list_consensus.py"


rule enrich_factors:
    input:
        atlas="<results>/{atlas}/atlas.h5ad",
        factors=described_files("factors.h5ad"),
        summaries=described_files("fit.json"),
        gene_sets=lambda wildcards: [
            gene_set_file(entry) for entry in CONFIG.atlases[wildcards.atlas].gene_sets
        ],
    output:
        table=report(
            "<results>/{atlas}/tables/enrichment.tsv",
            caption="../report/enrichment.rst",
            category="{atlas}",
        ),
        summary=report(
            "<results>/{atlas}/tables/enrichment_summary.tsv",
            caption="../report/enrichment_summary.rst",
            category="{atlas}",
        ),
        notes="<results>/{atlas}/tables/enrichment_notes.json",
    log:
        "<logs>/{atlas}/enrich_factors.log",
    conda:
        "../../envs/downstream.yaml"
    threads: 2
    resources:
        mem_mb=memory(1500, 5),
        runtime=minutes(120),
    params:
        code=code("enrich_factors.py"),
        organism=lambda wildcards: CONFIG.atlases[wildcards.atlas].organism,
        regulon_confidence=lambda wildcards: CONFIG.atlases[
            wildcards.atlas
        ].regulon_confidence,
        downstream=settings(
            CONFIG.downstream,
            include={"min_set_size", "max_set_size", "n_top_genes", "enrichment"},
            exclude={"enrichment": {"library_address"}},
        ),
    script:
        "../../scripts/enrich_factors.py"


rule choose_n_factors:
    input:
        metrics="<results>/{atlas}/tables/metrics.tsv",
        stability="<results>/{atlas}/tables/stability.tsv",
        consensus="<results>/{atlas}/tables/consensus.tsv",
        enrichment="<results>/{atlas}/tables/enrichment.tsv",
    output:
        report(
            "<results>/{atlas}/tables/n_factors.tsv",
            caption="../report/n_factors.rst",
            category="{atlas}",
        ),
    log:
        "<logs>/{atlas}/choose_n_factors.log",
    group:
        "tables"
    conda:
        "../../envs/downstream.yaml"
    resources:
        mem_mb=memory(1000, 5),
        runtime=minutes(5),
    params:
        code=code("choose_n_factors.py"),
        fits=[
            (model, k)
            for model, chosen in CONFIG.models.listed().items()
            for k in chosen.n_factors
        ],
    script:
        "../../scripts/choose_n_factors.py"
