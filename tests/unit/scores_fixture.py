"""Fits whose scores are known by construction."""

import anndata as ad
import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from latentree.scores import LoadedFit

N_CELLS, N_GENES, N_FACTORS = 200, 40, 3
GENES = [f"GENE{i}" for i in range(N_GENES)]
TYPES = np.array(["B", "CD4+/CD25 T Reg", "a;b"])[np.arange(N_CELLS) % 3]
SPLIT = np.array(["train", "train", "train", "validation", "test"])[np.arange(N_CELLS) % 5]


def make_factors(model: str = "sparse_vae", seed: int | str = 0, n_factors: int = N_FACTORS) -> ad.AnnData:
    """Factors 1 and 2 separate the types; of sparse_vae, which has inclusion, factor 3 is dead."""
    rng = np.random.default_rng([len(model), n_factors, 0 if isinstance(seed, str) else seed])
    z = rng.normal(size=(N_CELLS, n_factors))
    z[:, 0] += 6 * (TYPES == "B")
    z[:, 1] += 6 * (TYPES == "a;b")
    loadings = rng.normal(size=(N_GENES, n_factors)) + 5
    alive = np.ones(n_factors, dtype=bool)
    if model == "sparse_vae":
        loadings[10:, 0] = 0
        loadings[:30, 1] = 0
        z[:, 2], loadings[:, 2], alive[2] = 0, 0, False
    factors = ad.AnnData(
        csr_matrix((N_CELLS, N_GENES), dtype=np.float32),
        obs=pd.DataFrame(
            {"cell_type": pd.Categorical(TYPES), "split": pd.Categorical(SPLIT)},
            index=[f"cell{i}" for i in range(N_CELLS)],
        ),
        var=pd.DataFrame(index=GENES),
    )
    factors.obsm[f"X_{model}"] = z.astype(np.float32)
    factors.varm[f"{model}_loadings"] = loadings.astype(np.float32)
    if model == "sparse_vae":
        factors.varm[f"{model}_inclusion"] = (loadings != 0) * np.float32(0.9)
    factors.uns["latentree"] = {
        "model": model,
        "seed": seed,
        "factors": pd.DataFrame({"alive": alive}, index=[f"f{i + 1}" for i in range(n_factors)]),
    }
    return factors


def make_fit(model: str = "sparse_vae", seed: int | str = 0, n_factors: int = N_FACTORS) -> LoadedFit:
    summary = {"r2": {"train": 0.5, "test": 0.4}, "r2_scaled": {"test": 0.3}}
    return LoadedFit.from_anndata(make_factors(model, seed, n_factors), summary)
