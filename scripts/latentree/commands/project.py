"""``latentree project``: latents of the cells of a file under a saved fit."""

import logging
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from latentree.api import project as project_cells
from latentree.atlas.cleaning import cell_names, checked_library_size, clean_frame, gene_names
from latentree.atlas.source import Source, open_source
from latentree.atlas.values import choose_matrix
from latentree.errors import InputError, listed
from latentree.files import atomic_path
from latentree.fitted import Fit, load

_FAR = 1.5
"""By this factor expression differs from the training cells' before it is said."""


def project(fit_folder: str, cells: str, output: str, library_size: str | None, threads: int) -> int:
    """Write the projected cells; 0, or an :class:`InputError` with nothing written.

    Raises
    ------
    InputError
        No such fit, a file that is no usable h5ad, too few of the fit's genes, another scale, or an output
        that is the input.
    """
    target = Path(output)
    if target.suffix != ".h5ad":
        raise InputError(target, "is no name of an .h5ad file", "Name the output OUT.h5ad")
    if target.exists() and target.resolve() == Path(cells).resolve():
        raise InputError(target, "is the file of the cells itself", "Name another output")
    if target.resolve().parent == Path(fit_folder).resolve():
        raise InputError(target, "lies among the files of the fit", "Name an output elsewhere")
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="latentree: warning: %(message)s")
    fit = load(fit_folder)
    scale = str(fit.factors.uns["latentree"]["scale"])
    with open_source(Path(cells), cells) as opened:
        adata = _cells(opened, cells, scale, library_size)
    # the file's own summary says which genes are missing
    logging.getLogger("latentree.model_input").addFilter(_without_missing_genes)
    try:
        projected = project_cells(fit, adata, threads=threads)
    except InputError as error:
        raise InputError(f"{cells}: {error.where}", error.problem, error.remedy) from None
    finally:
        logging.getLogger("latentree.model_input").removeFilter(_without_missing_genes)
    try:
        with atomic_path(target) as temporary:
            projected.write_h5ad(temporary, compression="gzip")
    except OSError as error:
        raise InputError(
            target, f"cannot be written ({error.strerror or error})", "Name another place"
        ) from None
    _tell(fit, projected, adata, target, scale, library_size)
    return 0


def _cells(opened: Source, shown: str, scale: str, library_size: str | None) -> anndata.AnnData:
    """The cells with gene symbols, and the matrix that suits the fit: counts where the fit had counts."""
    key = "{} of the file".format
    names = cell_names(opened.obs, shown)
    # logarithms of another kind: the file's X is what the user says is alike
    choice = choose_matrix(opened.candidates, "auto" if scale == "log1p_cp10k" else "X", shown, key)
    genes = choice.candidate.genes
    named = gene_names(genes, None, shown, key("symbol_column"))
    obs = clean_frame(opened.obs).set_axis(names, axis=0)
    if library_size is not None:
        sizes = checked_library_size(opened.obs, library_size, "--library-size", shown)
        obs["library_size"] = sizes
    elif "library_size" in obs and not opened.prepared:
        # what it counts is not known; only latentree's own column is
        obs = obs.rename(columns={"library_size": "library_size_found"})
    if choice.kind == "normalised" and scale == "log1p_cp10k":
        raise InputError(
            shown,
            f"has neither counts nor logarithms: {choice.candidate.name} holds other values",
            "Give counts, or log1p of counts per 10,000",
        )
    return anndata.AnnData(choice.matrix.load(), obs=obs, var=pd.DataFrame(index=named.names))


def _tell(
    fit: Fit,
    projected: anndata.AnnData,
    adata: anndata.AnnData,
    target: Path,
    scale: str,
    library_size: str | None,
) -> None:
    facts = projected.uns["latentree"]["projection"]
    n_missing, n_matched = facts["n_genes_missing"], facts["n_genes_matched"]
    shown = f"obsm['X_{fit.model.name}'] of {fit.model.n_factors} factors"
    print(f"wrote {target}: {projected.n_obs} cells, {shown}")
    print(f"genes: {n_matched} of the fit's {n_matched + n_missing} matched")
    if n_missing:
        print(f"missing, set to their training mean: {listed(facts['missing_genes'])}")
    ratio = expression_ratio(fit, projected, adata) if scale == "log1p_cp10k" else 1.0
    if not 1 / _FAR <= ratio <= _FAR:
        how = f"{ratio:.2g} times" if ratio >= 1 else f"1/{1 / ratio:.2g} of"
        why = "the totals that counts were divided by do not fit the training cells'"
        remedy = "name the column of totals over all genes by --library-size"
        if library_size is not None:
            remedy = f"look whether {library_size} holds totals over all genes"
        print(
            f"latentree: warning: the fit's genes are {how} what they were in the training cells. Either"
            f" these cells differ, or {why}, as in a file cut to few genes ({adata.n_vars} here): {remedy}",
            file=sys.stderr,
        )


def expression_ratio(fit: Fit, projected: anndata.AnnData, adata: anndata.AnnData) -> float:
    """Expression of the fit's genes in these cells over that in the training cells, typical of a gene.

    Both as counts per 10,000, back from the means of their logarithms; 1 where nothing can be told.
    """
    genes = projected.var_names
    places = adata.var_names.get_indexer(genes)
    found = places >= 0
    x = adata.X[:, places[found]]
    values = x.tocsr() if sparse.issparse(x) else sparse.csr_matrix(x)
    if (values.data == np.floor(values.data)).all() and values.nnz:
        sums = np.asarray(adata.X.sum(axis=1), dtype=np.float64).ravel()
        library = (
            adata.obs["library_size"].to_numpy(dtype=np.float64) if "library_size" in adata.obs else sums
        )
        factor = np.divide(1e4, library, out=np.zeros_like(library), where=library > 0)
        values = (sparse.diags_array(factor) @ values).log1p()
    ours = np.expm1(np.asarray(values.mean(axis=0)).ravel())
    theirs = np.expm1(np.asarray(fit.training_mean, dtype=np.float64)[found])
    return float(ours.sum() / theirs.sum()) if ours.sum() > 0 and theirs.sum() > 0 else 1.0


def _without_missing_genes(record: logging.LogRecord) -> bool:
    return "are missing and set to" not in record.msg
