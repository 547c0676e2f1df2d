"""What the report says about gene sets as groups, and about their control."""

import pandas as pd


def group_sentences(groups: pd.DataFrame | None, model: str, n_factors: int, seed: int) -> tuple[str, ...]:
    """Sentences about one fit from group_summary.tsv; none for models without groups."""
    if groups is None:
        return ()
    fit = (groups["model"] == model) & (groups["n_factors"].astype(int) == n_factors)
    fit &= groups["seed"].astype(str) == str(seed)
    given, control = (groups[fit & (groups["sets"] == kind)] for kind in ("given", "permuted"))
    if given.empty:
        return ()
    row = given.iloc[0]
    sentences = [
        f"{int(row['n_grouped_genes'])} genes are in {int(row['n_gene_sets'])} gene sets, each in its most "
        f"specific one; {_pairs(row)}."
    ]
    if not control.empty:
        other = control.iloc[0]
        sentences.append(
            f"With sets of the same sizes and random genes: {_pairs(other)}; held-out R² "
            f"{_number(other)} instead of {_number(row)}. The sets say something about these cells as far as"
            " the two differ."
        )
    return tuple(sentences)


def _pairs(row: pd.Series) -> str:
    return f"{int(row['pairs_left'])} of {int(row['pairs'])} pairs of set and factor are left"


def _number(row: pd.Series) -> str:
    return f"{float(row['r2_test']):.3f}"
