"""Over-representation of gene sets among the active genes of factors, with gseapy, offline."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from latentree.files import join_names

COLUMNS = [
    "factor",
    "method",
    "gene_set",
    "n_overlap",
    "n_set",
    "n_background",
    "odds_ratio",
    "p_value",
    "q_value",
    "genes",
]


def over_representation(
    active: Mapping[str, Sequence[str]],
    sets: Mapping[str, Sequence[str]],
    background: Sequence[str],
    *,
    min_set_size: int = 5,
    max_set_size: int = 500,
) -> pd.DataFrame:
    """Test every gene set for over-representation among the active genes of every factor of one fit.

    One-sided hypergeometric test (Fisher's exact test) against the background. Sets are cut to the background
    before their size is judged. q-values are Benjamini-Hochberg over all pairs of a factor with active
    genes and a tested set, those without overlap (p = 1) counted in, although they have no row.

    Parameters
    ----------
    active
        Factor name to its active genes, all of them in the background.
    sets
        Set name to its genes.
    background
        The genes that could have been active: the modelled genes, length n_background.
    min_set_size, max_set_size
        Sets with fewer or more genes of the background are not tested.

    Returns
    -------
    One row per factor and set that share a gene, factors in the order given, within a factor by p-value
    and set name. Columns: factor, method (``ora``), gene_set, n_overlap, n_set (in the background),
    n_background, odds_ratio (0.5 added to each of the four counts, so that it is finite;
    Haldane-Anscombe), p_value, q_value, genes (those shared, in the background's order, see
    :func:`join_genes`).
    """
    index = {gene: i for i, gene in enumerate(dict.fromkeys(background))}
    tested = _sets_of_size(sets, index, min_set_size, max_set_size)
    names = sorted(tested)
    queries = {factor: sorted({index[gene] for gene in genes}) for factor, genes in active.items()}
    queries = {factor: query for factor, query in queries.items() if query}
    tables = [
        _one_factor(query, names, tested, len(index)).assign(factor=factor)
        for factor, query in queries.items()
    ]
    if not tables or not names:
        return pd.DataFrame(columns=COLUMNS)
    table = pd.concat(tables, ignore_index=True)
    table["q_value"] = _benjamini_hochberg(table["p_value"].to_numpy(), len(queries) * len(names))
    order = {factor: i for i, factor in enumerate(queries)}
    table = table.sort_values(
        ["factor", "p_value", "gene_set"],
        key=lambda column: column.map(order) if column.name == "factor" else column,
    )
    genes = list(index)
    table["genes"] = [join_names(genes[i] for i in shared) for shared in table["genes"]]
    return table.assign(method="ora", n_background=len(index))[COLUMNS].reset_index(drop=True)


def sets_to_test(
    sets: Mapping[str, Sequence[str]], background: Sequence[str], *, min_set_size: int, max_set_size: int
) -> list[str]:
    """Names of the sets that :func:`over_representation` tests with the same arguments."""
    index = {gene: i for i, gene in enumerate(dict.fromkeys(background))}
    return sorted(_sets_of_size(sets, index, min_set_size, max_set_size))


def _sets_of_size(
    sets: Mapping[str, Sequence[str]], index: Mapping[str, int], smallest: int, largest: int
) -> dict[str, set[int]]:
    """Sets cut to the background, as positions in it; those of another size are left out."""
    cut = {name: {index[gene] for gene in genes if gene in index} for name, genes in sets.items()}
    return {name: found for name, found in cut.items() if smallest <= len(found) <= largest}


def _one_factor(
    query: list[int], names: list[str], tested: Mapping[str, set[int]], n_background: int
) -> pd.DataFrame:
    """gseapy's test of one factor: gene_set, n_overlap, n_set, odds_ratio, p_value, genes (indices).

    gseapy gets tokens for genes and sets instead of their names: it changes the case of queries by a rule
    of its own (C1orf43 would be lost), joins genes by ``;``, takes all-digit names for Entrez ids and
    looks sets that are strings up on its server.
    """
    import gseapy

    if not any(tested[name].intersection(query) for name in names):
        # gseapy logs this as an error
        return pd.DataFrame(columns=_COLUMNS_OF_A_FACTOR)
    found = gseapy.enrich(
        gene_list=[_token(i) for i in query],
        gene_sets={_token(i): [_token(gene) for gene in tested[name]] for i, name in enumerate(names)},
        background=[_token(i) for i in range(n_background)],
        outdir=None,
        no_plot=True,
    ).results
    sizes = found["Overlap"].str.split("/", expand=True).astype(np.int64)
    return pd.DataFrame(
        {
            "gene_set": [names[_number(token)] for token in found["Term"]],
            "n_overlap": sizes[0].to_numpy(),
            "n_set": sizes[1].to_numpy(),
            "odds_ratio": found["Odds Ratio"].to_numpy(dtype=np.float64),
            "p_value": found["P-value"].to_numpy(dtype=np.float64),
            "genes": [sorted(map(_number, genes.split(";"))) for genes in found["Genes"]],
        }
    )


_COLUMNS_OF_A_FACTOR = ["gene_set", "n_overlap", "n_set", "odds_ratio", "p_value", "genes"]


def _token(i: int) -> str:
    return f"T{i}"


def _number(token: str) -> int:
    return int(token[1:])


def _benjamini_hochberg(p_values: np.ndarray, n_tests: int) -> np.ndarray:
    """Adjusted p-values, shape (n,), where further ``n_tests - n`` tests gave p = 1."""
    order = np.argsort(p_values, kind="stable")
    raw = p_values[order] * n_tests / np.arange(1, len(p_values) + 1)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(np.minimum.accumulate(raw[::-1])[::-1], 1.0)
    return adjusted
