"""Fit a model to an AnnData, save and load the fit, project other cells onto it.

The only place where models meet AnnData.
"""

import hashlib
import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from threadpoolctl import threadpool_limits

from latentree import __version__
from latentree.checkpoints import Checkpoints
from latentree.code_hash import code_hash
from latentree.config import model_settings
from latentree.errors import InputError, listed, whole_number
from latentree.factors import Arrangement, TrainingMoments, alive, arrange, r2
from latentree.files import atomic_path, read_json, write_json, write_table
from latentree.model_input import projection_input, training_input
from latentree.models import model_class
from latentree.models.base import FactorModel, FitReport, RunOptions, row_chunks
from latentree.provenance import peak_memory_mb
from latentree.seeds import derive_seed
from latentree.training import reproducible, resolve_device

HISTORY_COLUMNS = ["epoch", "loss", "validation_loss", "learning_rate", "cpu_seconds", "wall_seconds"]


@dataclass(frozen=True)
class Fit:
    """A fitted model and what it says about the cells it was fitted on.

    Parameters
    ----------
    factors
        AnnData of cells x modelled genes without X: obsm["X_{model}"] float32 (n_cells, n_factors),
        varm["{model}_loadings"] float32 (n_genes, n_factors), varm["{model}_inclusion"] where the model has
        it, uns["latentree"] with the facts of each factor.
    history
        A row per epoch; empty for models without epochs.
    summary
        Held-out R^2, epochs, seconds, memory: what fit.json holds.
    model
        The fitted model; its own factors are in another order (see ``arrangement``).
    arrangement
        Order and direction of the factors as shown.
    training_mean
        (n_genes,) mean of the training cells, which stands for genes that other cells lack.
    checkpoints
        What the fit left for the case that it is stopped before it is saved; None: a fit that was loaded.
    """

    factors: anndata.AnnData
    history: pd.DataFrame
    summary: dict[str, Any]
    model: FactorModel
    arrangement: Arrangement
    training_mean: np.ndarray
    checkpoints: Checkpoints | None = None

    def __repr__(self) -> str:
        n_cells, n_genes = self.factors.shape
        alive = int(self.factors.uns["latentree"]["factors"]["alive"].sum())
        return (
            f"Fit of {self.model.name}: {n_cells} cells x {n_genes} genes,"
            f" {self.model.n_factors} factors ({alive} alive)"
        )

    @property
    def latents(self) -> np.ndarray:
        """(n_cells, n_factors) float32 posterior means of the cells of ``factors``."""
        return self.factors.obsm[f"X_{self.model.name}"]

    @property
    def loadings(self) -> pd.DataFrame:
        """Genes x factors."""
        facts = self.factors.uns["latentree"]["factors"]
        values = self.factors.varm[f"{self.model.name}_loadings"]
        return pd.DataFrame(values, index=self.factors.var_names, columns=list(facts["factor"]))

    def save(self, folder: str | Path) -> None:
        """Write factors.h5ad, model.safetensors, fit.json and history.tsv, each whole or not at all.

        The fit's checkpoint is deleted then.
        """
        folder = Path(folder)
        state = {
            **self.model.state(),
            **self.arrangement.state(),
            "training.mean": self.training_mean,
        }
        with atomic_path(folder / "model.safetensors") as temporary:
            save_file({name: np.ascontiguousarray(value) for name, value in state.items()}, temporary)
        write_table(self.history, folder / "history.tsv")
        write_json(self.summary, folder / "fit.json")
        with atomic_path(folder / "factors.h5ad") as temporary:
            self.factors.write_h5ad(temporary)
        if self.checkpoints is not None:
            self.checkpoints.delete()


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
        "sparse_vae", "vae", "nmf", "pca" or "ica".
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
    resolved = resolve_device(device)
    given = training_input(adata, seed)
    fitted = model_class(model)(checked, n_factors)
    data_hash = given.sha256()
    settings_json = json.dumps(checked.model_dump(mode="json"), sort_keys=True)
    options = RunOptions(
        device=resolved,
        threads=threads,
        checkpoint=Path(checkpoint) if checkpoint is not None else None,
        checkpoint_key=_hash(
            model, str(n_factors), str(seed), settings_json, data_hash, resolved, str(threads), _code_hash()
        )
        if checkpoint is not None
        else "",
        progress=progress,
    )
    wall, cpu = time.perf_counter(), time.process_time()
    # two libraries with threads of their own: BLAS under numpy and scikit-learn, and torch
    with threadpool_limits(threads), reproducible(threads):
        report = fitted.fit(given.data, derive_seed(seed, model, n_factors), options)
        arrangement, shares = arrange(fitted, given.data)
        own_latents = fitted.transform(given.data.x)
        training = TrainingMoments.of(given.data)
        scores = {
            split: r2(fitted, given.data.x, own_latents, given.rows(split), training)
            for split in given.splits
        }
    _require_finite(own_latents, model)
    facts = {
        "model": model,
        "settings_json": settings_json,
        "seed": seed,
        "versions_json": json.dumps(_versions(), sort_keys=True),
        "atlas_sha256": atlas_sha256 or data_hash,
        "scale": given.scale,
    }
    factors = _factors_anndata(given.obs, given.genes, fitted, own_latents, arrangement, shares, facts)
    summary = {
        "model": model,
        "n_factors": n_factors,
        "seed": seed,
        "settings": json.loads(settings_json),
        "versions": _versions(),
        "atlas_sha256": facts["atlas_sha256"],
        "scale": given.scale,
        "n_cells": {split: len(given.rows(split)) for split in given.splits},
        "n_genes": len(given.genes),
        "alive_factors": int(factors.uns["latentree"]["factors"]["alive"].sum()),
        "r2": {split: plain for split, (plain, _) in scores.items()},
        "r2_scaled": {split: scaled for split, (_, scaled) in scores.items()},
        **_run_facts(report, options, wall, cpu),
    }
    history = pd.DataFrame(report.history) if report.history else pd.DataFrame(columns=HISTORY_COLUMNS)
    checkpoints = Checkpoints(options.checkpoint, options.checkpoint_key)
    return Fit(factors, history, summary, fitted, arrangement, training.mean, checkpoints)


def load(folder: str | Path) -> Fit:
    """A fit as it was saved; the data it was fitted on are not needed.

    Raises
    ------
    InputError
        A file of the fit is missing or damaged.
    """
    folder = Path(folder)
    for name in ("factors.h5ad", "model.safetensors", "fit.json", "history.tsv"):
        if not (folder / name).is_file():
            raise InputError(folder, f"has no {name}, so it is no saved fit", "Give the folder of Fit.save")
    summary = _read_summary(folder / "fit.json")
    settings = model_settings(summary["model"], summary["settings"])
    try:
        state = load_file(folder / "model.safetensors")
        factors = anndata.read_h5ad(folder / "factors.h5ad")
        model = model_class(summary["model"]).from_state(settings, summary["n_factors"], state)
    except (SafetensorError, OSError, KeyError) as error:
        raise InputError(folder, f"a file is damaged ({error})", "Fit the model again") from error
    history = pd.read_csv(folder / "history.tsv", sep="\t")
    return Fit(factors, history, summary, model, Arrangement.from_state(state), state["training.mean"])


def _read_summary(file: Path) -> dict[str, Any]:
    """What fit.json holds, where it holds what :func:`load` needs."""
    summary = read_json(file)
    needed = {"model": str, "n_factors": int, "settings": dict}
    found = summary if isinstance(summary, dict) else {}
    lacking = [key for key, kind in needed.items() if not isinstance(found.get(key), kind)]
    if lacking:
        raise InputError(
            file, f"says nothing usable about {listed(lacking)}, so it is of no fit", "Fit the model again"
        )
    return found


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
    own_latents = np.empty((adata.n_obs, fit.model.n_factors), dtype=np.float32)
    with threadpool_limits(threads), reproducible(threads):
        for rows in row_chunks(adata.n_obs, len(given.mean)):
            own_latents[rows] = fit.model.transform(given.dense(rows))
    _require_finite(own_latents, fit.model.name)
    projected = anndata.AnnData(obs=adata.obs.copy(), var=fit.factors.var.copy())
    projected.obsm[f"X_{fit.model.name}"] = fit.arrangement.apply(own_latents)
    for key, values in fit.factors.varm.items():
        projected.varm[key] = np.array(values)
    projected.uns["latentree"] = {**facts, "projection": given.facts()}
    return projected


def _factors_anndata(
    obs: pd.DataFrame,
    genes: pd.Index,
    model: FactorModel,
    own_latents: np.ndarray,
    arrangement: Arrangement,
    shares: np.ndarray,
    facts: dict[str, Any],
) -> anndata.AnnData:
    """The contract with the rest of the field (docs/outputs.md)."""
    factors = anndata.AnnData(obs=obs, var=pd.DataFrame(index=genes))
    loadings = arrangement.apply(model.loadings())
    factors.obsm[f"X_{model.name}"] = arrangement.apply(own_latents)
    factors.varm[f"{model.name}_loadings"] = loadings
    inclusion = model.inclusion()
    if inclusion is not None:
        factors.varm[f"{model.name}_inclusion"] = arrangement.reorder(inclusion)
    table = pd.DataFrame(
        {
            "factor": [f"f{place}" for place in range(1, model.n_factors + 1)],
            "n_active_genes": (loadings != 0).sum(axis=0).astype(np.int64),
            "variance_share": shares,
            "alive": alive(loadings, shares),
            "flipped": arrangement.sign < 0,
        },
        index=[str(place) for place in range(model.n_factors)],
    )
    factors.uns["latentree"] = {**facts, "factors": table}
    return factors


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


def _require_finite(latents: np.ndarray, model: str) -> None:
    n_broken = int((~np.isfinite(latents).all(axis=1)).sum())
    if n_broken:
        raise InputError(
            f"model {model}",
            f"the latents of {n_broken} of {len(latents)} cells are not finite",
            "Look for outliers in X, or lower learning_rate",
        )


def _versions() -> dict[str, str]:
    packages = ("torch", "numpy", "scipy", "scikit-learn")
    return {
        "latentree": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def _code_hash() -> str:
    """Hash of the code and packages that decide what a fit's parameters become."""
    here = Path(__file__).resolve()
    return _hash(code_hash(here, here.parents[1]), json.dumps(_versions()))


def _hash(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part.encode()).digest())
    return digest.hexdigest()
