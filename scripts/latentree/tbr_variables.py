"""Which genes of an atlas are the latents of a simulated phenotype, and which the inputs.

Outside the package tbr, so that the environments stage can ask for the genes without torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latentree.errors import InputError
from latentree.leading_axes import LeadingAxes
from latentree.seeds import derive_seed
from latentree.tbr_config import TBRConfig
from latentree.tbr_regulators import Regulators

if TYPE_CHECKING:
    from anndata import AnnData

# fewer regulators than this many per latent cannot carry the latents
INPUTS_PER_LATENT = 2
_MAX_COMPONENTS = 50


@dataclass(frozen=True)
class Variables:
    """Latents and inputs of every cell.

    Parameters
    ----------
    Z
        float32 (n_cells, n_latents): the latent genes, standardised on the training cells.
    X
        float32 (n_cells, n_inputs).
    latents, inputs
        Their names.
    latent_source, input_source
        What they are, in words for tables.
    note
        Why they are not what was asked for, empty where they are.
    """

    Z: np.ndarray
    X: np.ndarray
    latents: tuple[str, ...]
    inputs: tuple[str, ...]
    latent_source: str
    input_source: str
    note: str


def genes_needed(
    gene_names: Sequence[str], latents: Sequence[str], regulators: Regulators | None = None
) -> list[str]:
    """Genes that TBR reads besides the modelled ones, in the order of ``gene_names``.

    Every listed latent gene that the atlas has, and the regulators of any of them; all regulators where
    no latent is listed, as for a measured phenotype. Both may be empty; the fall-backs of
    :func:`choose_variables` take modelled genes.

    Parameters
    ----------
    gene_names
        All genes of the atlas (``atlas.var_names``).
    latents
        Genes that may be latents.
    regulators
        Genes that may be inputs; None where inputs are components.
    """
    present = [str(gene) for gene in gene_names]
    wanted = set(latents) & set(present)
    if regulators:
        # where the atlas has no listed gene random ones become latents; a plain list may regulate any of them
        wanted |= regulators.of(sorted(wanted)) if latents else set(regulators.targets)
    return [gene for gene in present if gene in wanted]


def environment_genes(
    adata: "AnnData", latents: Sequence[str] | None, regulators: Regulators | None = None
) -> list[str]:
    """Genes that the environments' cells hold, in the atlas's order: the modelled ones and TBR's.

    Parameters
    ----------
    adata
        An atlas, (n_cells, n_genes).
    latents
        Genes that may be TBR's latents; None where TBR does not run, which leaves the modelled genes.
    regulators
        Genes that may be TBR's inputs, if there is a file of them.
    """
    # here, so that the workflow can read a file of regulators without anndata
    from latentree.atlas import modelled_genes

    wanted = modelled_genes(adata)
    if latents is not None:
        wanted = wanted | adata.var_names.isin(genes_needed(adata.var_names, latents, regulators))
    return list(adata.var_names[wanted])


def choose_variables(
    cells: "AnnData", settings: TBRConfig, seed: int, regulators: str | Path | None = None
) -> Variables:
    """Draw the latent genes of one phenotype and take the inputs that go with them.

    Latents are ``n_latents`` of the listed genes, inputs their regulators. Where too few listed
    genes are there, latents are random expressed genes; where fewer than two regulators per latent
    are there, inputs are the leading principal components of the other genes. The result says so.
    No gene is both latent and input, and genes that are constant over the training cells are neither.

    Parameters
    ----------
    cells
        Dense X (n_cells, n_genes) on log scale; obs["split"] tells the training cells (all where it is
        absent), var["modelled"] the genes of the fall-backs (all where it is absent).
    settings
        latents, n_latents, regulators and which rows of them (regulator_*) are used.
    seed
        Which latents are drawn.
    regulators
        Where the file of regulators is, if not where the settings say.

    Raises
    ------
    InputError
        The cells have too few varying genes for latents and inputs.
    """
    values = np.asarray(cells.X, dtype=np.float32)
    names = np.array([str(name) for name in cells.var_names])
    train = training_rows(cells)
    spread = values[train].std(axis=0)
    varies = spread > 1e-6
    modelled = cells.var["modelled"].to_numpy(dtype=bool) if "modelled" in cells.var else np.ones_like(varies)
    latents, latent_source, notes = _latents(names, varies, modelled, values[train], settings, seed)

    regulating = Regulators.asked(settings, regulators)
    known = regulating.of(names[latents].tolist()) if regulating else set()
    inputs = np.flatnonzero(varies & np.isin(names, sorted(known)))
    inputs = np.setdiff1d(inputs, latents)
    if len(inputs) >= INPUTS_PER_LATENT * len(latents):
        X, input_names = values[:, inputs], tuple(names[inputs].tolist())
        input_source = f"{len(inputs)} regulators{_rows_in_words(settings)}"
    else:
        if regulating:
            notes.append(f"{len(inputs)} usable regulators of {len(latents)} latents among the genes")
        others = np.setdiff1d(np.flatnonzero(varies & modelled), latents)
        X, _ = components(values[:, others], train, len(latents))
        input_names = tuple(f"PC{i + 1}" for i in range(X.shape[1]))
        input_source = f"{X.shape[1]} principal components of {len(others)} other genes"
    Z = (values[:, latents] - values[train][:, latents].mean(axis=0)) / spread[latents]
    return Variables(
        Z=Z,
        X=X,
        latents=tuple(names[latents].tolist()),
        inputs=input_names,
        latent_source=latent_source,
        input_source=input_source,
        note="; ".join(notes),
    )


def subset(n_items: int, size: int, seed: int) -> np.ndarray:
    """A subset of ``size`` of ``range(n_items)``, ascending int64 (size,), another one for each seed.

    Seeds that differ by less than the number of subsets give different subsets: they walk through all
    subsets in steps of about a golden section.
    """
    n_subsets = math.comb(n_items, size)
    stride = max(1, 618 * n_subsets // 1000)
    while math.gcd(stride, n_subsets) > 1:
        stride += 1
    number = (derive_seed("tbr", "latents") + seed * stride) % n_subsets
    # the number's subset in lexicographic order
    members: list[int] = []
    for item in range(n_items):
        if len(members) == size:
            break
        with_it = math.comb(n_items - item - 1, size - len(members) - 1)
        if number < with_it:
            members.append(item)
        else:
            number -= with_it
    return np.array(members, dtype=np.int64)


def training_rows(cells: "AnnData") -> np.ndarray:
    """Row numbers of the training cells, all where there is no split."""
    if "split" not in cells.obs:
        return np.arange(cells.n_obs)
    return np.flatnonzero(cells.obs["split"].to_numpy() == "train")


def _latents(
    names: np.ndarray,
    varies: np.ndarray,
    modelled: np.ndarray,
    train_values: np.ndarray,
    settings: TBRConfig,
    seed: int,
) -> tuple[np.ndarray, str, list[str]]:
    """Columns of the latents, what they are, and notes."""
    wanted = settings.n_drawn_latents
    usable = np.flatnonzero(varies & np.isin(names, settings.latents))
    if len(usable) >= wanted:
        return usable[subset(len(usable), wanted, seed)], "listed genes", []
    candidates = np.flatnonzero(varies & modelled)
    if len(candidates) < 2 * wanted:
        raise InputError(
            "tbr.n_latents",
            f"{wanted} latents, but only {len(candidates)} genes vary over the training cells",
            "Lower n_latents, or model more genes (preprocess.n_genes)",
        )
    level = train_values[:, candidates].mean(axis=0)
    # the better half by mean expression, so that the latents are not noise
    expressed = candidates[np.argsort(-level, kind="stable")[: max(wanted, len(candidates) // 2)]]
    note = f"{len(usable)} of {len(settings.latents)} listed latent genes are usable, {wanted} are needed"
    chosen = np.sort(expressed)[subset(len(expressed), wanted, seed)]
    return chosen, "random expressed genes", [note]


def _rows_in_words(settings: TBRConfig) -> str:
    """Which rows of the table of regulators were used, empty for all."""
    asked = {"source": settings.regulator_sources, "confidence": settings.regulator_confidence}
    words = [f"{column} {', '.join(values)}" for column, values in asked.items() if values]
    return f" ({'; '.join(words)})" if words else ""


def components(genes: np.ndarray, train: np.ndarray, n_latents: int) -> tuple[np.ndarray, LeadingAxes]:
    """Up to 50 principal components as inputs; axes and centre are the training cells'.

    Parameters
    ----------
    genes
        float32 (n_cells, n_genes).
    train
        int64: training cells.
    n_latents
        So many components are needed at least.

    Returns
    -------
    Scores of all cells, float32 (n_cells, n_components), and the axes.
    """
    n_components = min(_MAX_COMPONENTS, genes.shape[1], len(train) - 1)
    if n_components < n_latents:
        raise InputError(
            "tbr.n_latents",
            f"{n_latents} latents, but {genes.shape[1]} genes as inputs and {len(train)} training cells",
            "Lower n_latents, or model more genes (preprocess.n_genes)",
        )
    centred = genes - genes[train].mean(axis=0)
    axes = LeadingAxes.fit(centred[train], n_components, seed=0)
    return axes.scores(centred), axes
