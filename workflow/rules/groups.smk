# What factors do to groups of genes (gene sets), for the model that knows them; only where it is listed.
GROUP_MODELS = [name for name in CONFIG.models.listed() if name == "oi_vae"]


# The same fit with permuted sets: what any sets of these sizes would show.
use rule fit_torch_model as fit_group_control with:
    output:
        factors="<results>/{atlas}/controls/{model}/k{k}/seed{seed}/factors.h5ad",
        model="<results>/{atlas}/controls/{model}/k{k}/seed{seed}/model.safetensors",
        summary="<results>/{atlas}/controls/{model}/k{k}/seed{seed}/fit.json",
        history="<results>/{atlas}/controls/{model}/k{k}/seed{seed}/history.tsv",
    log:
        "<logs>/{atlas}/fit_group_control/{model}.k{k}.seed{seed}.log",
    benchmark:
        "<benchmarks>/{atlas}/fit_group_control/{model}.k{k}.seed{seed}.tsv"
    wildcard_constraints:
        model=one_of(GROUP_MODELS),
    group:
        small_fits("fit_group_control")
    conda:
        f"../../envs/{TORCH_ENV}"
    params:
        code=code("fit_model.py"),
        settings=lambda wildcards: model_settings(wildcards) | {"permuted": True},
        device=CONFIG.device,


rule weigh_groups:
    input:
        factors=fits(
            "<results>/{atlas}/fits/{model}/k{k}/seed{seed}/factors.h5ad",
            models=GROUP_MODELS,
        )
        + fits(
            "<results>/{atlas}/controls/{model}/k{k}/seed{seed}/factors.h5ad",
            CONFIG.seeds[:1],
            GROUP_MODELS,
        ),
        summaries=fits(
            "<results>/{atlas}/fits/{model}/k{k}/seed{seed}/fit.json",
            models=GROUP_MODELS,
        )
        + fits(
            "<results>/{atlas}/controls/{model}/k{k}/seed{seed}/fit.json",
            CONFIG.seeds[:1],
            GROUP_MODELS,
        ),
    output:
        weights=report(
            "<results>/{atlas}/tables/group_weights.tsv",
            caption="../report/groups.rst",
            category="{atlas}",
        ),
        summary="<results>/{atlas}/tables/group_summary.tsv",
    log:
        "<logs>/{atlas}/weigh_groups.log",
    conda:
        "../../envs/downstream.yaml"
    resources:
        mem_mb=memory(1000, 5),
        runtime=minutes(10),
    params:
        code=code("weigh_groups.py"),
    script:
        "../../scripts/weigh_groups.py"


rule draw_groups:
    input:
        "<results>/{atlas}/tables/group_weights.tsv",
    output:
        picture("groups_{model}_k{k}", "groups"),
    log:
        "<logs>/{atlas}/draw_groups/{model}.k{k}.log",
    wildcard_constraints:
        model=one_of(GROUP_MODELS),
    group:
        "pictures"
    conda:
        "../../envs/report.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=minutes(5),
    params:
        code=code("draw_groups.py"),
        seed=CONFIG.seeds[0],
    script:
        "../../scripts/draw_groups.py"
