"""scvi-tools' models at its own settings, where it is installed (requirements-bench.txt)."""

import logging
import warnings
from dataclasses import dataclass
from importlib.util import find_spec

import anndata
import numpy as np
from bench_tools import cpu_clock

PEERS = ("LinearSCVI", "SCVI")
ABSENT = "scvi-tools is not installed, so its models' rows are left out: run `make bench-setup`"


@dataclass(frozen=True)
class PeerFit:
    """Latents (n_cells, n_factors) of all cells, and the CPU seconds of training alone."""

    latents: np.ndarray
    cpu_seconds: float


def installed() -> bool:
    """Whether scvi-tools is there."""
    return find_spec("scvi") is not None


def fit_peer(name: str, adata: anndata.AnnData, n_factors: int, n_epochs: int, seed: int) -> PeerFit:
    """Fit on the counts of the modelled genes of the training cells; encode all cells.

    Parameters
    ----------
    name
        One of ``PEERS``.
    adata
        A prepared atlas with layers["counts"].
    """
    import scvi

    logging.getLogger("scvi").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    scvi.settings.seed = seed
    scvi.settings.verbosity = logging.ERROR
    genes = adata.var["modelled"].to_numpy(dtype=bool)
    cells = anndata.AnnData(adata.layers["counts"][:, genes].copy(), obs=adata.obs[["split"]].copy())
    train = cells[(cells.obs["split"] == "train").to_numpy()].copy()
    kind = getattr(scvi.model, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind.setup_anndata(train)
        model = kind(train, n_latent=n_factors)
        with cpu_clock() as clock:
            model.train(
                max_epochs=n_epochs,
                accelerator="cpu",
                devices=1,
                train_size=1.0,
                logger=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                enable_checkpointing=False,
            )
        latents = model.get_latent_representation(cells)
    return PeerFit(np.asarray(latents, dtype=np.float32), clock.seconds)
