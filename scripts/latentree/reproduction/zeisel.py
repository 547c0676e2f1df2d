"""The public file of Zeisel et al. (Science 347:1138, 2015) as an .h5ad: all 3,005 cells and 19,972 genes.

    python -m latentree.reproduction.zeisel expression_mRNA_17-Aug-2014.txt data/zeisel2015_full.h5ad

The text file holds ten rows about the cells (their name in the second column, values from the third), an
empty row, and a row per gene: name, the authors' cluster, counts.
"""

import argparse
import csv
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from latentree.errors import InputError
from latentree.files import atomic_path

ADDRESS = (
    "https://storage.googleapis.com/linnarsson-lab-www-blobs/blobs/cortex/expression_mRNA_17-Aug-2014.txt"
)
_COLUMNS = {"level1class": "cell_type", "level2class": "cell_subtype"}


def read_zeisel(file: str | Path) -> anndata.AnnData:
    """Cells x genes, CSR float32 counts; ``obs["cell_type"]`` is the authors' first level.

    Raises
    ------
    InputError
        The file has another format.
    """
    about: dict[str, list[str]] = {}
    genes: list[str] = []
    columns: list[sparse.csr_matrix] = []
    try:
        with open(file, encoding="utf-8", newline="") as stream:
            for row in csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE):
                if row and row[0]:
                    genes.append(row[0])
                    columns.append(sparse.csr_matrix(np.array(row[2:], dtype=np.float32)))
                elif len(row) > 2 and row[1]:
                    about[row[1]] = row[2:]
        cells = about.pop("cell_id")
        counts = sparse.vstack(columns, format="csr").T.tocsr()
        obs = pd.DataFrame(
            {_COLUMNS.get(key, key.replace(" ", "_")): values for key, values in about.items()}, index=cells
        )
        if "cell_type" not in obs:
            raise ValueError("no row level1class")
        return anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=genes))
    except (KeyError, ValueError) as error:
        raise InputError(
            file, f"is not the text file of Zeisel et al. ({error})", f"Download {ADDRESS}"
        ) from None


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("text", type=Path, help=f"from {ADDRESS}")
    parser.add_argument("h5ad", type=Path, help="to write")
    given = parser.parse_args(arguments)
    with atomic_path(given.h5ad) as temporary:
        read_zeisel(given.text).write_h5ad(temporary, compression="gzip")


if __name__ == "__main__":
    main()
