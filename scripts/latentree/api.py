"""The only place where models meet AnnData: fit one, load one, project other cells onto one."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anndata
import numpy as np
from threadpoolctl import threadpool_limits

from latentree.checkpoints import Checkpoints
from latentree.code_hash import code_hash
from latentree.config import model_settings
from latentree.errors import InputError, whole_number
from latentree.factor_settings import FactorModelSettings, TorchModelSettings
from latentree.fitted import Asked, Fit, describe, load, package_versions, require_finite
from latentree.gene_grouping import group_genes
from latentree.model_input import TrainingInput, projection_batches, projection_input, training_input
from latentree.model_settings import MODEL_SETTINGS, OIVAESettings
from latentree.models import model_class
from latentree.models.base import FitReport, RunOptions
from latentree.models.scaling import row_chunks
from latentree.provenance import peak_memory_mb
from latentree.seeds import derive_seed

__all__ = ["Fit", "fit", "fit_stack", "load", "project"]


def fit(
    adata: anndata.AnnData,
    model: str,
    n_factors: int = 10,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    *,
    device: str = "auto",
    threads: int = 1,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    atlas_sha256: str | None = None,
) -> Fit:
    """Fit one model.

    Trains on ``obs["split"] == "train"`` where that column is there (and stops early on "validation"), else
    splits off a tenth of the cells for that itself. Models ``var["modelled"]``, or all genes without it.

    Parameters
    ----------
    adata
        Any AnnData with a finite X, sparse or dense; logarithms of expression as ``read_atlas`` makes them,
        or other values, negative ones too (not for nmf, nor for ``input: sqrt``).
    model
        "sparse_vae", "vae", "beta_vae", "vsc", "oi_vae", "dd_vae", "intel_vae", "nmf", "pca" or "ica".
    n_factors
        Number of latent factors.
    seed
        The fit's random numbers follow from seed, model and n_factors.
    settings
        Settings of the model by name; what is not given has its default (config/README.md).
    device
        "auto", "cpu" or "cuda".
    threads
        CPU threads; another number may change the last bits of the result.
    checkpoint
        Folder of this fit's checkpoints: a fit that was killed goes on from there. Deleted by ``Fit.save``.
    progress
        A progress bar, or a few lines where stderr is no terminal.
    atlas_sha256
        Checksum of the atlas's file for the record; None: a hash of the values that were used.

    Raises
    ------
    InputError
        Something about the data, the arguments or the device makes the fit impossible.
    """
    n_factors, seed = whole_number("n_factors", n_factors, 1), whole_number("seed", seed, 0)
    threads = whole_number("threads", threads, 1)
    checked = model_settings(model, settings)
    resolved = _device(model, device)
    given = training_input(adata, seed, getattr(checked, "batch", None))
    if isinstance(checked, OIVAESettings):
        organism = adata.uns.get("latentree", {}).get("organism")
        given = given.grouped(group_genes(checked, list(given.genes), list(adata.var_names), organism, seed))
    asked = _asked(checked, n_factors, seed, given, atlas_sha256)
    fitted = model_class(model)(checked, n_factors)
    options = RunOptions(
        device=resolved,
        threads=threads,
        checkpoint=Path(checkpoint) if checkpoint is not None else None,
        checkpoint_key=_checkpoint_key(model, asked, given, resolved, threads)
        if checkpoint is not None
        else "",
        progress=progress,
    )
    wall, cpu = time.perf_counter(), time.process_time()
    with _numerics(model, threads):
        report = fitted.fit(given.data, derive_seed(seed, model, n_factors), options)
        checkpoints = Checkpoints(options.checkpoint, options.checkpoint_key)
        described = describe(fitted, report, given, asked, checkpoints)
    described.summary.update(_run_facts(report, options, wall, cpu))
    return described


def fit_stack(
    adatas: Sequence[anndata.AnnData],
    model: str = "sparse_vae",
    n_factors: int = 10,
    seeds: Sequence[int] | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    device: str = "auto",
    threads: int = 1,
    progress: bool = False,
) -> list[Fit]:
    """Fit one small model to each of many data sets (or seeds) at once, as one batched model.

    It pays where a step of a single fit takes less than about two milliseconds (a few dozen genes): there
    most of the time is overhead, which the fits of a stack share. They must have the same numbers of genes
    and of training and validation cells. Settings that are left open may be decided differently for
    different data; fits of the same decisions then run together. Batches and noise are drawn for the stack
    as a whole, so a fit in a stack is not bit for bit the fit alone.

    Parameters
    ----------
    adatas
        As in :func:`fit`, one per fit; the same one several times for several seeds.
    model
        "sparse_vae", the only model that can be stacked.
    seeds
        One per fit; None: 0 for all.
    n_factors, settings, device, threads, progress
        As in :func:`fit`.

    Returns
    -------
    Fits in the order of ``adatas``; their history and seconds are means over the stack.

    Raises
    ------
    InputError
        As :func:`fit`; or the data sets differ in size.
    """
    if model != "sparse_vae":
        raise InputError("model", f"{model!r} cannot be stacked", "Use sparse_vae, or fit one by one")
    n_factors, threads = whole_number("n_factors", n_factors, 1), whole_number("threads", threads, 1)
    seeds = [0] * len(adatas) if seeds is None else [whole_number("seeds", seed, 0) for seed in seeds]
    if len(seeds) != len(adatas) or not adatas:
        raise InputError(
            "seeds",
            f"{len(seeds)} seeds were given for {len(adatas)} data sets",
            "Give one seed per data set",
        )
    checked = model_settings(model, settings)
    given = [training_input(adata, seed, checked.batch) for adata, seed in zip(adatas, seeds, strict=True)]
    sizes = {(one.data.x.shape[1], len(one.data.train), len(one.data.validation)) for one in given}
    if len(sizes) > 1:
        raise InputError(
            "adatas",
            f"differ in their numbers of genes, training and validation cells: {sorted(sizes)}",
            "Stack data sets of the same size",
        )
    options = RunOptions(device=_device(model, device), threads=threads, progress=progress)
    wall, cpu = time.perf_counter(), time.process_time()
    with _numerics(model, threads):
        from latentree.models.sparse_vae import SparseVAEModel, fit_stack

        models = [SparseVAEModel(checked, n_factors) for _ in given]
        stack_seeds = [derive_seed(seed, model, n_factors) for seed in seeds]
        reports = fit_stack(models, [one.data for one in given], stack_seeds, options)
        fits = [
            describe(one, report, its, _asked(checked, n_factors, seed, its, None), Checkpoints(None, ""))
            for one, report, its, seed in zip(models, reports, given, seeds, strict=True)
        ]
    for one, report in zip(fits, reports, strict=True):
        facts = _run_facts(report, options, wall, cpu)
        shared = {key: facts[key] / len(fits) for key in ("cpu_seconds", "wall_seconds")}
        one.summary.update({**facts, **shared, "fits_in_stack": len(fits)})
    return fits


def _asked(
    settings: FactorModelSettings, n_factors: int, seed: int, given: TrainingInput, atlas_sha256: str | None
) -> Asked:
    return Asked(n_factors, seed, settings.model_dump(mode="json"), atlas_sha256 or given.sha256())


def project(fit: Fit, adata: anndata.AnnData, *, threads: int = 1) -> anndata.AnnData:
    """Latents of other cells under a fitted model.

    Genes are matched by name; those that are missing are set to the mean of the fit's training cells, which
    is counted in ``uns["latentree"]["projection"]`` and said in a warning.

    Parameters
    ----------
    fit
        From :func:`fit` or :func:`load`.
    adata
        Cells on the scale of the fit. Where the fit was made on log1p of counts per 10k, an AnnData whose X
        holds integer counts is normalised in the same way (by ``obs["library_size"]`` where it is there,
        else by the sum over all its genes).
    threads
        CPU threads.

    Returns
    -------
    AnnData of all cells of ``adata`` x the fit's genes, as ``Fit.factors``.

    Raises
    ------
    InputError
        Almost none of the fit's genes are there, or the values are on another scale.
    """
    threads = whole_number("threads", threads, 1)
    facts = dict(fit.factors.uns["latentree"])
    given = projection_input(adata, fit.factors.var_names, facts["scale"], fit.training_mean)
    covariates, batch_facts = projection_batches(adata, fit.summary.get("batch"))
    own_latents = np.empty((adata.n_obs, fit.model.n_factors), dtype=np.float32)
    with _numerics(fit.model.name, threads):
        for rows in row_chunks(adata.n_obs, len(given.mean)):
            known = None if covariates is None else covariates[rows]
            own_latents[rows] = fit.model.transform(given.dense(rows), known)
    require_finite(own_latents, fit.model.name)
    projected = anndata.AnnData(obs=adata.obs.copy(), var=fit.factors.var.copy())
    projected.obsm[f"X_{fit.model.name}"] = fit.arrangement.apply(own_latents)
    for key, values in fit.factors.varm.items():
        projected.varm[key] = np.array(values)
    projected.uns["latentree"] = {**facts, "projection": {**given.facts(), **batch_facts}}
    return projected


def _uses_torch(model: str) -> bool:
    """Whether torch, which takes two seconds to load, is needed."""
    return issubclass(MODEL_SETTINGS[model], TorchModelSettings)


def _device(model: str, device: str) -> str:
    """Where the model is fitted: matrix models on the CPU, but a GPU that is asked for must be there."""
    if not _uses_torch(model) and device in ("auto", "cpu"):
        return "cpu"
    from latentree.training import resolve_device

    resolved = resolve_device(device)
    return resolved if _uses_torch(model) else "cpu"


@contextmanager
def _numerics(model: str, threads: int) -> Iterator[None]:
    """So many threads for BLAS under numpy and scikit-learn, and for torch where it is used."""
    with threadpool_limits(threads):
        if not _uses_torch(model):
            yield
            return
        from latentree.training import reproducible

        with reproducible(threads):
            yield


def _run_facts(report: FitReport, options: RunOptions, wall: float, cpu: float) -> dict[str, Any]:
    """How the fit ran; seconds include the epochs that a checkpoint brought."""
    earlier = report.history[: report.resumed_from_epoch or 0]
    return {
        "n_epochs": len(report.history),
        "best_epoch": report.best_epoch,
        "converged": report.converged,
        "notes": list(report.notes),
        "resumed_from_epoch": report.resumed_from_epoch,
        "device": options.device,
        "threads": options.threads,
        "cpu_seconds": time.process_time() - cpu + sum(row["cpu_seconds"] for row in earlier),
        "wall_seconds": time.perf_counter() - wall + sum(row["wall_seconds"] for row in earlier),
        "peak_memory_mb": peak_memory_mb(),
    }


def _checkpoint_key(model: str, asked: Asked, given: TrainingInput, device: str, threads: int) -> str:
    """Hash of all that decides the numbers of a fit; how often it is saved decides none."""
    facts = asdict(asked)
    facts["settings"].pop("checkpoint_every", None)
    return _hash(model, json.dumps(facts), given.sha256(), device, str(threads), _code_hash())


def _code_hash() -> str:
    """Hash of the code and packages that decide what a fit's parameters become."""
    here = Path(__file__).resolve()
    return _hash(code_hash(here, here.parents[1]), json.dumps(package_versions()))


def _hash(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part.encode()).digest())
    return digest.hexdigest()
