"""Fit one model again, to a part of the cells, to see which factors come back."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from latentree.attempts import one_attempt
from latentree.job import rule_script

with rule_script(snakemake, __file__) as record, one_attempt(snakemake, record):
    from latentree.api import fit
    from latentree.atlas import load_atlas
    from latentree.files import sha256_of
    from latentree.job_device import job_device
    from latentree.resampling import draw_part
    from latentree.seeds import derive_seed

    folder = Path(snakemake.output.factors).parent
    part, model, draw = snakemake.wildcards.part, snakemake.wildcards.model, snakemake.params.draw
    # not among the parameters, because it changes no number and must rerun nothing
    unwatched = {"checkpoint_every"}
    configured = snakemake.config["models"][model]
    settings = snakemake.params.settings | {key: configured[key] for key in unwatched & configured.keys()}
    atlas = load_atlas(snakemake.input.atlas)
    drawn = draw_part(
        part,
        atlas.obs["split"].to_numpy(dtype=str),
        draw["seed"],
        fraction=draw.get("fraction"),
        donors=atlas.obs[draw["split_by"]].to_numpy(dtype=str) if draw.get("split_by") else None,
    )
    result = fit(
        atlas[drawn.kept].copy(),
        model,
        n_factors=int(snakemake.wildcards.k),
        # a seed of its own, as a fit by someone else would have: refits that share random numbers agree
        # more than their cells warrant
        seed=derive_seed(snakemake.params.first_seed, "refit", part) % 2**31,
        settings=settings,
        device=job_device(snakemake.params.device, snakemake.resources),
        threads=snakemake.threads,
        checkpoint=folder / "checkpoint",
        atlas_sha256=sha256_of(snakemake.input.atlas),
    )
    result.summary["refit"] = {"part": part, "how": drawn.how, "n_left_out": int((~drawn.kept).sum())}
    result.save(folder)
