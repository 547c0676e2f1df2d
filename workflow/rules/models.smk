# One job per fit: a failed fit or a new seed touches no other.


rule fit_torch_model:
    input:
        atlas="<results>/{atlas}/atlas.h5ad",
        gene_sets=group_files,
    output:
        factors="<results>/{atlas}/fits/{model}/k{k}/seed{seed}/factors.h5ad",
        model="<results>/{atlas}/fits/{model}/k{k}/seed{seed}/model.safetensors",
        summary="<results>/{atlas}/fits/{model}/k{k}/seed{seed}/fit.json",
        history="<results>/{atlas}/fits/{model}/k{k}/seed{seed}/history.tsv",
    log:
        "<logs>/{atlas}/fit_model/{model}.k{k}.seed{seed}.log",
    benchmark:
        "<benchmarks>/{atlas}/fit_model/{model}.k{k}.seed{seed}.tsv"
    wildcard_constraints:
        model=one_of(TORCH_MODELS),
    group:
        small_fits("fit_torch_model")
    conda:
        f"../../envs/{TORCH_ENV}"
    threads: 1
    resources:
        mem_mb=memory(2000, 10),
        runtime=minutes(10, 480),
        gpu=GPUS,
    params:
        code=code("fit_model.py"),
        settings=model_settings,
        device=CONFIG.device,
    script:
        "../../scripts/fit_model.py"


use rule fit_torch_model as fit_matrix_model with:
    wildcard_constraints:
        model=one_of(
            name for name in CONFIG.models.listed() if name not in TORCH_MODELS
        ),
    group:
        small_fits("fit_matrix_model")
    conda:
        "../../envs/torch.yaml"
    resources:
        mem_mb=memory(2000, 10),
        runtime=minutes(10, 480),
    params:
        code=code("fit_model.py"),
        settings=model_settings,
        # scikit-learn knows no device
        device="cpu",


# The same models on other cells, which tell what of a fit is the tissue's and what its own cells'.
rule refit_torch_model:
    input:
        atlas="<results>/{atlas}/atlas.h5ad",
        gene_sets=group_files,
    output:
        factors="<results>/{atlas}/resamples/{model}/k{k}/{part}/factors.h5ad",
        model="<results>/{atlas}/resamples/{model}/k{k}/{part}/model.safetensors",
        summary="<results>/{atlas}/resamples/{model}/k{k}/{part}/fit.json",
        history="<results>/{atlas}/resamples/{model}/k{k}/{part}/history.tsv",
    log:
        "<logs>/{atlas}/refit_model/{model}.k{k}.{part}.log",
    benchmark:
        "<benchmarks>/{atlas}/refit_model/{model}.k{k}.{part}.tsv"
    wildcard_constraints:
        model=one_of(TORCH_MODELS),
    group:
        small_fits("refit_torch_model")
    conda:
        f"../../envs/{TORCH_ENV}"
    threads: 1
    resources:
        mem_mb=memory(2000, 20),
        runtime=minutes(10, 480),
        gpu=GPUS,
    params:
        code=code("refit_model.py"),
        settings=model_settings,
        device=CONFIG.device,
        draw=draw_settings,
        first_seed=CONFIG.seeds[0],
    script:
        "../../scripts/refit_model.py"


use rule refit_torch_model as refit_matrix_model with:
    wildcard_constraints:
        model=one_of(
            name for name in CONFIG.models.listed() if name not in TORCH_MODELS
        ),
    group:
        small_fits("refit_matrix_model")
    conda:
        "../../envs/torch.yaml"
    resources:
        mem_mb=memory(2000, 20),
        runtime=minutes(10, 480),
    params:
        code=code("refit_model.py"),
        settings=model_settings,
        # scikit-learn knows no device
        device="cpu",
        draw=draw_settings,
        first_seed=CONFIG.seeds[0],


# What the seeds of one model agree on, and how far each of its factors is to be trusted.
rule build_consensus:
    input:
        factors=expand(
            "<results>/{{atlas}}/fits/{{model}}/k{{k}}/seed{seed}/factors.h5ad",
            seed=CONFIG.seeds,
        ),
        summaries=expand(
            "<results>/{{atlas}}/fits/{{model}}/k{{k}}/seed{seed}/fit.json",
            seed=CONFIG.seeds,
        ),
        halves=expand(
            "<results>/{{atlas}}/resamples/{{model}}/k{{k}}/{part}/factors.h5ad",
            part=[
                part
                for part in CONFIG.downstream.stability.parts
                if part.startswith("half")
            ],
        ),
    output:
        factors="<results>/{atlas}/fits/{model}/k{k}/consensus/factors.h5ad",
        summary="<results>/{atlas}/fits/{model}/k{k}/consensus/fit.json",
        table="<results>/{atlas}/fits/{model}/k{k}/consensus/stability.tsv",
    log:
        "<logs>/{atlas}/build_consensus/{model}.k{k}.log",
    group:
        "consensus"
    conda:
        "../../envs/downstream.yaml"
    resources:
        mem_mb=memory(1500, 10),
        runtime=minutes(10),
    params:
        code=code("build_consensus.py"),
    script:
        "../../scripts/build_consensus.py"
