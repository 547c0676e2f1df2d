"""The atlas stage: read, validate, normalise, split, choose genes, write."""

from latentree.atlas.prepare import prepare_atlas
from latentree.atlas.reading import read_atlas
from latentree.atlas.written import (
    is_atlas,
    load_atlas,
    modelled_genes,
    modelled_matrix,
    split_rows,
    write_atlas,
)

__all__ = [
    "is_atlas",
    "load_atlas",
    "modelled_genes",
    "modelled_matrix",
    "prepare_atlas",
    "read_atlas",
    "split_rows",
    "write_atlas",
]
