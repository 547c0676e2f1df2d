"""Real cells for the experiments, prepared as the workflow's atlas stage would."""

from pathlib import Path

import anndata

from latentree.atlas import prepare_atlas
from latentree.config import AtlasSettings
from latentree.reproduction.sources import ZEISEL, ZEISEL_FULL
from latentree.settings import PreprocessSettings

MIN_CELLS_PER_TYPE = 5
_DESCRIBED = {
    ZEISEL: {"organism": "mouse", "library_size": "total_mRNA_mol"},
    ZEISEL_FULL: {"organism": "mouse"},
}


def prepared(file: Path, *, n_genes: int = 1000, split: int = 0) -> anndata.AnnData:
    """The atlas in a file of the data folder: log values, counts, cell types, a split, modelled genes.

    Parameters
    ----------
    n_genes
        Modelled genes, chosen on the training cells of this split.
    split
        Seed of the split into training, validation and test cells.
    """
    described = {"path": str(file), "cell_type": "cell_type", **_DESCRIBED.get(file.name, {})}
    return prepare_atlas(
        AtlasSettings.model_validate(described),
        PreprocessSettings.model_validate({"n_genes": n_genes, "seed": split}),
        MIN_CELLS_PER_TYPE,
        name=file.stem,
    )[0]
