# Environments: denoised cells of each cell type, and the tree of cell types.
MAGIC = CONFIG.environments.magic.engine
DENOISE_SCRIPT = {
    "latentree": "denoise_cells.py",
    "magic-impute": "denoise_cells_magic_impute.py",
}[MAGIC]
DENOISE_ENV = {"latentree": "atlas.yaml", "magic-impute": "magic-impute.yaml"}[MAGIC]


rule denoise_cells:
    input:
        atlas="<results>/{atlas}/atlas.h5ad",
        regulators=(
            [located(CONFIG.tbr.regulators)]
            if CONFIG.tbr and CONFIG.tbr.regulators
            else []
        ),
    output:
        "<results>/{atlas}/environments/cells.h5ad",
    log:
        "<logs>/{atlas}/denoise_cells.log",
    benchmark:
        "<benchmarks>/{atlas}/denoise_cells.tsv"
    conda:
        f"../../envs/{DENOISE_ENV}"
    threads: 1
    resources:
        mem_mb=memory(2000, 60),
        runtime=minutes(20),
    params:
        code=code(DENOISE_SCRIPT),
        environments=settings(
            CONFIG.environments, exclude={"tree", "min_cells_per_type"}
        ),
        # the genes that TBR reads are denoised beside the modelled ones
        latents=tbr_latents(),
        regulator_rows=regulator_rows(CONFIG.tbr),
    script:
        f"../../scripts/{DENOISE_SCRIPT}"


rule build_tree:
    input:
        atlas="<results>/{atlas}/atlas.h5ad",
        file=(
            [located(CONFIG.environments.tree.file)]
            if CONFIG.environments.tree.file
            else []
        ),
    output:
        newick="<results>/{atlas}/environments/tree.nwk",
        table="<results>/{atlas}/environments/tree.tsv",
    log:
        "<logs>/{atlas}/build_tree.log",
    conda:
        "../../envs/atlas.yaml"
    resources:
        mem_mb=memory(1500, 30),
        runtime=minutes(10),
    params:
        code=code("build_tree.py"),
        tree=settings(CONFIG.environments.tree),
    script:
        "../../scripts/build_tree.py"


rule draw_tree:
    input:
        "<results>/{atlas}/environments/tree.tsv",
    output:
        picture("tree", "tree"),
    log:
        "<logs>/{atlas}/draw_tree.log",
    group:
        "pictures"
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=minutes(5),
    params:
        code=code("draw_tree.py"),
    script:
        "../../scripts/draw_tree.py"
