"""A small atlas and quick fits of it, for the tests of fit, save, load and project."""

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

import latentree as lt

N_CELLS, N_GENES, N_FACTORS = 150, 30, 3
GENE_SETS = {f"set{place}": [f"GENE{gene}" for gene in range(7 * place, 7 * place + 7)] for place in range(3)}
_QUICK_VAE: dict[str, object] = {"max_epochs": 6, "hidden": 10}
QUICK: dict[str, dict[str, object]] = {
    **dict.fromkeys(["vae", "beta_vae", "vsc", "dd_vae", "intel_vae"], _QUICK_VAE),
    "oi_vae": {**_QUICK_VAE, "gene_sets": GENE_SETS},
    "sparse_vae": {"max_epochs": 6},
}
MODELS = ["pca", "ica", "nmf", *QUICK]


def example_counts(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    means = rng.gamma(1, 1, (N_CELLS, N_FACTORS)) @ rng.gamma(0.5, 2, (N_FACTORS, N_GENES))
    counts = rng.poisson(means).astype(np.float32)
    counts[:, 0] += 1  # no cell is empty
    return counts


def example_atlas() -> ad.AnnData:
    """As atlas.h5ad: log1p of counts per 10k, split, modelled genes."""
    counts = example_counts()
    library = counts.sum(axis=1, keepdims=True)
    rng = np.random.default_rng(5)
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(rng.choice(["CD4+/CD25 T Reg", "a;b", "<i>"], N_CELLS)),
            "split": pd.Categorical(np.resize(["train"] * 7 + ["validation"] + ["test"] * 2, N_CELLS)),
            "library_size": library[:, 0].astype(np.float64),
            "donor": "d1",
        },
        index=[f"cell{i}" for i in range(N_CELLS)],
    )
    var = pd.DataFrame({"modelled": np.arange(N_GENES) < 25}, index=[f"GENE{i}" for i in range(N_GENES)])
    adata = ad.AnnData(sparse.csr_matrix(np.log1p(counts / library * 1e4), dtype=np.float32), obs, var)
    adata.layers["counts"] = sparse.csr_matrix(counts)
    adata.uns["latentree"] = {"scale": "log1p_cp10k", "organism": "human", "qc_json": "{}"}
    return adata


def quick_fit(adata: ad.AnnData, model: str, n_factors: int = N_FACTORS, **more: object) -> lt.Fit:
    return lt.fit(adata, model, n_factors, settings=QUICK.get(model), progress=False, **more)  # type: ignore[arg-type]
