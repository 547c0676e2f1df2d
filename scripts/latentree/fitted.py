"""A fitted model with what it says about its cells: made, saved and loaded."""

import json
import platform
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from latentree import __version__
from latentree.checkpoints import Checkpoints
from latentree.config import model_settings
from latentree.errors import InputError, listed
from latentree.factors import Arrangement, TrainingMoments, alive, arrange, r2
from latentree.files import atomic_path, read_json, write_json, write_table
from latentree.model_input import TrainingInput
from latentree.models import model_class
from latentree.models.base import FactorModel, FitReport
from latentree.models.scaling import spread

# cells of a split at most whose log p is estimated, which takes many passes through the decoder
_CELLS_FOR_LIKELIHOOD = 500
HISTORY_COLUMNS = ["epoch", "loss", "validation_loss", "learning_rate", "cpu_seconds", "wall_seconds"]


@dataclass(frozen=True)
class Fit:
    """A fitted model and what it says about the cells it was fitted on.

    Parameters
    ----------
    factors
        AnnData of cells x modelled genes without X: obsm["X_{model}"] float32 (n_cells, n_factors),
        varm["{model}_loadings"] float32 (n_genes, n_factors), varm["{model}_inclusion"] where the model has
        it, uns["latentree"] with the facts of each factor, and of each gene set where the model has such.
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


@dataclass(frozen=True)
class Asked:
    """What a fit was asked for, beside its data.

    Parameters
    ----------
    n_factors, seed
        As given.
    settings
        As given, defaults filled in; the fitted model holds them as decided.
    atlas_sha256
        Checksum of the atlas's file, or of the values that were used.
    """

    n_factors: int
    seed: int
    settings: dict[str, Any]
    atlas_sha256: str


def describe(
    model: FactorModel, report: FitReport, given: TrainingInput, asked: Asked, checkpoints: Checkpoints
) -> Fit:
    """What a fitted model says about the cells it was fitted on and those beside them.

    ``summary`` lacks how the fit ran; that is the caller's to add.
    """
    arrangement, shares = arrange(model, given.data)
    own_latents = model.transform(given.data.x, given.data.covariates)
    require_finite(own_latents, model.name)
    training = TrainingMoments.of(given.data)
    scores = {
        split: r2(model, given.data, own_latents, given.rows(split), training) for split in given.splits
    }
    diagnostics = _diagnostics(model, arrangement)
    resolved = model.settings.model_dump(mode="json")
    facts = {
        "model": model.name,
        "settings_json": json.dumps(asked.settings, sort_keys=True),
        "resolved_json": json.dumps(resolved, sort_keys=True),
        "seed": asked.seed,
        "versions_json": json.dumps(package_versions(), sort_keys=True),
        "atlas_sha256": asked.atlas_sha256,
        "scale": given.scale,
    }
    batch = None if given.batch is None else given.batch.facts()
    if batch is not None:
        facts["batch_json"] = json.dumps(batch, sort_keys=True)
    if diagnostics is not None:
        facts["diagnostics_json"] = json.dumps(diagnostics, sort_keys=True)
    factors = _factors_anndata(given.obs, given.genes, model, own_latents, arrangement, shares, facts)
    summary = {
        "model": model.name,
        "n_factors": asked.n_factors,
        "seed": asked.seed,
        "settings": asked.settings,
        "resolved": resolved,
        "versions": package_versions(),
        "atlas_sha256": asked.atlas_sha256,
        "scale": given.scale,
        "n_cells": {split: len(given.rows(split)) for split in given.splits},
        "n_genes": len(given.genes),
        "alive_factors": int(factors.uns["latentree"]["factors"]["alive"].sum()),
        "r2": {split: plain for split, (plain, _) in scores.items()},
        "r2_scaled": {split: scaled for split, (_, scaled) in scores.items()},
        "log_likelihood": _log_likelihoods(model, given),
        "batch": batch,
        "facts": _facts(model, arrangement),
        "diagnostics": diagnostics,
    }
    history = pd.DataFrame(report.history) if report.history else pd.DataFrame(columns=HISTORY_COLUMNS)
    return Fit(factors, history, summary, model, arrangement, training.mean, checkpoints)


_NO_FIT = "Name the folder of one seed, fits/MODEL/kK/seedN, or one of Fit.save; a consensus has no model"


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
            raise InputError(folder, f"has no {name}, so it is no saved fit", _NO_FIT)
    summary = _read_summary(folder / "fit.json")
    settings = model_settings(summary["model"], summary["resolved"])
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
    needed = {"model": str, "n_factors": int, "resolved": dict}
    found = summary if isinstance(summary, dict) else {}
    lacking = [key for key, kind in needed.items() if not isinstance(found.get(key), kind)]
    if lacking:
        raise InputError(
            file, f"says nothing usable about {listed(lacking)}, so it is of no fit", "Fit the model again"
        )
    return found


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
    diagnostics = _diagnostics(model, arrangement)
    if diagnostics is not None:
        table["n_anchor_genes"] = np.array(diagnostics["n_anchors"], dtype=np.int64)
    factors.uns["latentree"] = {**facts, "factors": table}
    weights = model.group_weights()
    if weights is not None:
        factors.uns["latentree"]["group_weights"] = {
            "gene_set": np.array(weights.names, dtype=object),
            "n_genes": weights.n_genes,
            "member": weights.member,
            "weight": arrangement.reorder(weights.weights),
        }
    return factors


def _log_likelihoods(model: FactorModel, given: TrainingInput) -> dict[str, float]:
    """Mean of log p in nats of cells that no parameter was fitted on, where the model has a density."""
    found = {}
    for split in given.splits:
        if split == "train":
            continue
        rows = spread(given.rows(split), _CELLS_FOR_LIKELIHOOD)
        values = model.log_likelihood(given.data, rows)
        if values is not None:
            found[split] = float(values.mean())
    return found


def _facts(model: FactorModel, arrangement: Arrangement) -> dict[str, Any]:
    """What the model has found, its numbers by factor in the order in which factors are shown."""
    facts = model.facts()
    if "by_factor" in facts:
        by_factor = facts["by_factor"].items()
        facts["by_factor"] = {name: [own[place] for place in arrangement.order] for name, own in by_factor}
    return facts


def _diagnostics(model: FactorModel, arrangement: Arrangement) -> dict[str, Any] | None:
    """What the model says about itself, factors in the order in which they are shown."""
    diagnostics = model.diagnostics()
    if diagnostics is None:
        return None
    n_anchors = [diagnostics.n_anchors[place] for place in arrangement.order]
    return {**asdict(diagnostics), "n_anchors": n_anchors}


def require_finite(latents: np.ndarray, model: str) -> None:
    """Raise InputError where latents (n_cells, n_factors) are not."""
    n_broken = int((~np.isfinite(latents).all(axis=1)).sum())
    if n_broken:
        raise InputError(
            f"model {model}",
            f"the latents of {n_broken} of {len(latents)} cells are not finite",
            "Look for outliers in X, or lower learning_rate",
        )


@cache
def package_versions() -> dict[str, str]:
    """Of what decides a fit's numbers."""
    packages = ("torch", "numpy", "scipy", "scikit-learn")
    return {
        "latentree": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }
