"""Does the consensus find planted programs, is what it calls stable true, and is the right K recommended?

    python bench/consensus.py [--data-seeds 0 1 2] [--seeds 5] [--grid 4 6 8 10 12]

Simulated counts of cells that use 8 sparse programs, a fifth of the genes in none; the Sparse VAE as it is by
default, refits on halves of the cells, and the tables that the workflow makes of them. Writes consensus.tsv,
a row per data seed and question: programs found (|r| at least .9) by each consensus, stable factors that are
no program, the recommended K, and programs whose planted set is the first enriched one.
"""

from typing import Any

import anndata
import numpy as np
import pandas as pd
from bench_tools import parser, write
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix

from latentree.api import Fit, fit
from latentree.atlas import modelled_matrix, read_atlas
from latentree.config import DownstreamConfig
from latentree.consensus_files import consensus_anndata, consensus_of, consensus_rows, consensus_table
from latentree.enrichment_tables import enrich
from latentree.metrics.mcc import correlations
from latentree.n_factors import n_factors_table
from latentree.resampling import draw_part
from latentree.scores import LoadedFit, metrics_table
from latentree.seeds import CONSENSUS
from latentree.simulate import SimulatedPrograms, simulate_programs
from latentree.stability import gathered_refits, reference_refits, stability_table

MODEL = "sparse_vae"
GOOD = 0.9
HALVES = ("half0", "half1")


def main(arguments: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument("--data-seeds", nargs="+", type=int, default=[0, 1, 2])
    made.add_argument("--seeds", type=int, default=5, help="seeds of the fits")
    made.add_argument("--grid", nargs="+", type=int, default=[4, 6, 8, 10, 12])
    made.add_argument("--programs", type=int, default=8)
    made.add_argument("--cells", type=int, default=2000)
    chosen = made.parse_args(arguments)
    if chosen.quick:
        chosen.data_seeds, chosen.seeds, chosen.grid = [0], 2, [3, 4]
        chosen.programs, chosen.cells = 4, 400
    rows: list[dict[str, Any]] = []
    for data_seed in chosen.data_seeds:
        sim = simulate_programs(chosen.programs, n_cells=chosen.cells, seed=data_seed)
        found = measured(sim, chosen.grid, range(chosen.seeds))
        rows += [{"data_seed": data_seed, "question": name, "value": value} for name, value in found.items()]
        print(data_seed, found, flush=True)
    write(rows, "consensus", chosen.out)


def atlas_of(sim: SimulatedPrograms) -> anndata.AnnData:
    """The simulated cells as the workflow's first stage prepares them."""
    cells = [f"cell{i}" for i in range(len(sim.counts))]
    obs = pd.DataFrame({"cell_type": sim.cell_types, "total": sim.library_size}, index=cells)
    raw = anndata.AnnData(csr_matrix(sim.counts.astype(np.float32)), obs, pd.DataFrame(index=sim.genes))
    return read_atlas(raw, cell_type="cell_type", library_size="total")


def measured(sim: SimulatedPrograms, grid: list[int], seeds: range) -> dict[str, Any]:
    """Answers for one simulated atlas."""
    atlas = atlas_of(sim)
    split = atlas.obs["split"].to_numpy(dtype=str)
    parts = {part: atlas[draw_part(part, split, 0).kept].copy() for part in HALVES}
    fits, refits, tables, consensuses = [], [], [], {}
    for k in grid:
        own = [fit(atlas, MODEL, k, seed=seed, progress=False) for seed in seeds]
        halves = [fit(parts[part], MODEL, k, seed=1000 + i, progress=False) for i, part in enumerate(HALVES)]
        consensus = consensus_of([one.factors for one in own], [(halves[0].factors, halves[1].factors)])
        fits += [loaded(one) for one in own]
        refits += list(zip(HALVES, map(loaded, halves), strict=True))
        consensuses[k] = LoadedFit.from_anndata(consensus_anndata(own[0].factors, consensus), {})
        tables.append(consensus_rows(MODEL, k, list(seeds), consensus))
    groups = gathered_refits(fits, refits, 0)
    groups += reference_refits(modelled_matrix(atlas), atlas.obs_names, fits, refits)
    stability = stability_table(fits, groups, 0)
    of_consensus = consensus_table(tables, stability)
    settings = DownstreamConfig.model_validate({"enrichment": {"gsea": False}})
    enrichment = enrich([*fits, *consensuses.values()], sim.gene_sets, settings).table
    metrics = metrics_table("simulated", fits)
    choice = n_factors_table([(MODEL, k) for k in grid], metrics, stability, of_consensus, enrichment)
    print(choice.to_string(), flush=True)
    print(of_consensus.round(2).to_string(), flush=True)
    picked = choice.loc[choice["recommended"] == "yes", "n_factors"].tolist()
    answers: dict[str, Any] = {"recommended": picked[0] if picked else 0}
    for k in grid:
        stable = of_consensus[of_consensus["n_factors"] == k].set_index("factor")["stable"]
        for name, value in against_truth(sim, consensuses[k], stable).items():
            answers[f"{name}, k={k}"] = value
    at = min(grid, key=lambda k: abs(k - sim.usage.shape[1]))
    answers[f"sets first, k={at}"] = sets_first(sim, consensuses[at], enrichment)
    return answers


def loaded(one: Fit) -> LoadedFit:
    return LoadedFit.from_anndata(one.factors, one.summary)


def truth(sim: SimulatedPrograms, found: LoadedFit) -> tuple[np.ndarray, np.ndarray]:
    """|r| (n_programs, n_factors) of programs with factors, of loadings and of scores on test cells."""
    genes = pd.Index(sim.genes).get_indexer(found.genes)
    cells = pd.Index([f"cell{i}" for i in range(len(sim.usage))]).get_indexer(found.cells)
    test = found.rows("test")
    of_loadings = np.abs(correlations(sim.loadings[genes], found.loadings))
    return of_loadings, np.abs(correlations(sim.usage[cells][test], found.latents[test]))


def against_truth(sim: SimulatedPrograms, found: LoadedFit, stable: pd.Series) -> dict[str, int]:
    """Programs found, by loadings and by scores, and stable factors that are no program."""
    by_loadings, by_scores = truth(sim, found)
    called = [name in stable.index and stable[name] == "yes" for name in found.factor_names]
    best = np.maximum(by_loadings, by_scores).max(axis=0)
    matched_loadings = _one_to_one(by_loadings)
    matched_scores = _one_to_one(by_scores)
    return {
        "found by loadings": int((matched_loadings >= GOOD).sum()),
        "found by scores": int((matched_scores >= GOOD).sum()),
        "found by either": int((np.maximum(matched_loadings, matched_scores) >= GOOD).sum()),
        "stable": int(sum(called)),
        "stable below .9": int((best[called] < GOOD).sum()),
        "stable below .7": int((best[called] < 0.7).sum()),
    }


def _one_to_one(strength: np.ndarray) -> np.ndarray:
    """Strength (n_programs,) of each program's partner."""
    rows, columns = linear_sum_assignment(strength, maximize=True)
    matched = np.zeros(len(strength))
    matched[rows] = strength[rows, columns]
    return matched


def sets_first(sim: SimulatedPrograms, found: LoadedFit, enrichment: pd.DataFrame) -> int:
    """Programs whose planted set is the first of the factor that is theirs."""
    by_loadings, _ = truth(sim, found)
    mine = enrichment[enrichment["n_factors"] == found.n_factors]
    mine = mine[(mine["seed"].astype(str) == CONSENSUS) & (mine["method"] == "ora")]
    first = mine.drop_duplicates("factor").set_index("factor")["gene_set"]
    partners = by_loadings.argmax(axis=1)
    return sum(first.get(f"f{factor + 1}") == f"program{k + 1}" for k, factor in enumerate(partners))


if __name__ == "__main__":
    main()
