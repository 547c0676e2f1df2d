"""What the benchmarks share: one thread, CPU seconds, peak memory, tables, atlases."""

import argparse
import ctypes
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import torch
from scipy import sparse
from threadpoolctl import threadpool_limits

from latentree.atlas import prepare_atlas
from latentree.config import AtlasSettings
from latentree.files import write_table
from latentree.settings import PreprocessSettings

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
OUT = ROOT / "results" / "bench"
MIN_CELLS_PER_TYPE = 5
GENERATED = "generated"

ATLASES: Mapping[str, Mapping[str, str]] = {
    "zeisel2015": {
        "path": "zeisel2015_200genes.h5ad",
        "organism": "mouse",
        "library_size": "total_mRNA_mol",
    },
    "zheng2017": {"path": "zheng2017_sorted_pbmc.h5ad"},
    "kang2018": {"path": "kang2018_pbmc_ifnb.h5ad"},
    "pbmc68k_counts": {"path": "pbmc68k_reduced_counts.h5ad"},
}


def parser(description: str | None, **more: Any) -> argparse.ArgumentParser:
    """Options that all scripts have: where tables go, and a size at which they run in seconds."""
    made = argparse.ArgumentParser(description=(description or "").splitlines()[0], **more)
    made.add_argument("--out", type=Path, default=OUT, help="folder of the tables")
    made.add_argument("--quick", action="store_true", help="everything small: shows that it runs, no more")
    return made


def write(rows: Iterable[Mapping[str, Any]], name: str, out: Path) -> pd.DataFrame:
    """Write ``<out>/<name>.tsv`` and show it."""
    table = pd.DataFrame(list(rows))
    write_table(table, out / f"{name}.tsv")
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"), flush=True)
    return table


@dataclass
class Clock:
    """CPU seconds of this process, all its threads together; 0 until the block has ended."""

    seconds: float = 0.0


@contextmanager
def cpu_clock() -> Iterator[Clock]:
    """Measure a block's CPU time."""
    clock, start = Clock(), time.process_time()
    yield clock
    clock.seconds = time.process_time() - start


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch and the BLAS under numpy with one thread; as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def resident_mb() -> float:
    """Memory that this process holds now, MB of 10**6 bytes (Linux)."""
    return _status("VmRSS") * 1.024e-3


def peak_mb() -> float:
    """The most memory that it has held since :func:`forget_peak`, or ever (Linux)."""
    return _status("VmHWM") * 1.024e-3


def forget_peak() -> None:
    """Let the peak start from what is held now (Linux); where the kernel does not allow that, it goes on.

    What the allocator keeps for later goes back first, or work that uses it again would seem to need nothing.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        print("the peak memory before the measurement could not be forgotten", file=sys.stderr)


def _status(key: str) -> int:
    """A number of kB from /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def atlas(name: str, folder: Path, split: int, n_genes: int = 1000) -> anndata.AnnData:
    """A prepared atlas: genes are chosen on the training cells of this split."""
    preprocess = PreprocessSettings(seed=split, n_genes=n_genes)
    if name == GENERATED:
        return _generated_atlas(split)
    given = ATLASES[name]
    described = AtlasSettings(cell_type="cell_type", **{**given, "path": str(folder / given["path"])})
    return prepare_atlas(described, preprocess, MIN_CELLS_PER_TYPE, name=name)[0]


def generated_counts(
    n_cells: int, n_genes: int, density: float, seed: int
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Counts, CSR float32 (n_cells, n_genes), and the ten types of the cells, whose genes differ twofold."""
    rng = np.random.default_rng(seed)
    types = rng.integers(0, 10, n_cells)
    # the mean that gives a Poisson count above zero with the asked probability, spread over genes
    base = -np.log1p(-density) * rng.gamma(2.0, 0.5, n_genes)
    fold = np.exp2(rng.integers(-1, 2, (10, n_genes)))
    rows = [
        sparse.csr_matrix(rng.poisson(base * fold[types[start : start + 5_000]]).astype(np.float32))
        for start in range(0, n_cells, 5_000)
    ]
    return sparse.vstack(rows, format="csr"), types


def generated_anndata(n_cells: int, n_genes: int, density: float = 0.1, seed: int = 0) -> anndata.AnnData:
    """:func:`generated_counts` as the atlas stage would hand them on: log values, counts, library sizes."""
    counts, types = generated_counts(n_cells, n_genes, density, seed)
    library = np.maximum(np.asarray(counts.sum(1), dtype=np.float64).ravel(), 1)
    per_cell = np.repeat((1e4 / library).astype(np.float32), np.diff(counts.indptr))
    x = sparse.csr_matrix((np.log1p(counts.data * per_cell), counts.indices, counts.indptr), counts.shape)
    obs = pd.DataFrame(
        {"cell_type": pd.Categorical([f"type {t}" for t in types]), "library_size": library},
        index=[f"cell{i}" for i in range(n_cells)],
    )
    adata = anndata.AnnData(
        x, obs=obs, var=pd.DataFrame(index=[f"gene{i}" for i in range(n_genes)]), layers={"counts": counts}
    )
    adata.uns["latentree"] = {"scale": "log1p_cp10k"}
    return adata


def _generated_atlas(split: int) -> anndata.AnnData:
    """A small atlas that needs no file, split 70/10/20."""
    adata = generated_anndata(600, 60, density=0.3, seed=split)
    sides = np.random.default_rng(split).choice(["train", "validation", "test"], 600, p=[0.7, 0.1, 0.2])
    adata.obs["split"] = pd.Categorical(sides, categories=["train", "validation", "test"])
    adata.var["modelled"] = True
    return adata


def spared(folder: Path, names: Iterable[str]) -> list[str]:
    """Those of the atlases that are there; a line says which are not."""
    names = list(names)
    there = [name for name in names if name == GENERATED or (folder / ATLASES[name]["path"]).is_file()]
    if len(there) < len(names):
        print(f"not in {folder}: {', '.join(sorted(set(names) - set(there)))}; name the folder with --data")
    return there
