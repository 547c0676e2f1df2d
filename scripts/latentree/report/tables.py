"""Tables as they are shown: few columns, rounded, with their reference rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from latentree.report.verdicts import SIGNIFICANT, judged_by

_NO_VALUE = "–"
_SCORES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "ari": "ARI",
    "nmi": "NMI",
    "silhouette": "silhouette",
    "smi": "SMI",
    "smi_chance": "SMI, chance",
    "latent_hoyer": "Hoyer, latents",
    "batch_mixing": "batch mixing",
}
_FITS = {
    "r2": "R², held out",
    "r2_scaled": "R², genes scaled",
    "log_likelihood": "log p per cell",
    "hoyer": "Hoyer, loadings",
    "zeros": "exact zeros",
    "active_genes": "active genes",
    "alive_factors": "alive factors",
}
_ONE_DIGIT = ("active_genes", "alive_factors", "log_likelihood")
_REFERENCES = {"majority": "majority (reference)", "chance": "chance (reference)"}
_COMPARISONS = {"halves": "halves", "resamples": "resamples", "seeds": "seeds"}


@dataclass(frozen=True)
class Table:
    """A table of text: the first ``n_labels`` columns of each row name it, the others hold values."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_labels: int = 1


@dataclass(frozen=True)
class FactorRow:
    """One factor: its genes by weight and the sets that name it."""

    name: str
    n_genes: str
    n_anchors: str  # genes of this factor alone; empty where that is not known
    agreement: str  # with its partner in fits on other cells
    genes: tuple[tuple[str, str], ...]  # gene, sign-bearing loading
    n_more_genes: int
    sets: tuple[tuple[str, str], ...]  # set, "q = ..., 5 of 12 genes"
    n_more_sets: int
    note: str


def mean_and_sd(values: pd.Series, digits: int = 3) -> str:
    """``0.912 ± 0.004`` over seeds; without ± where no digit differs, a dash for none."""
    values = values.dropna()
    if values.empty:
        return _NO_VALUE
    text = f"{values.mean():.{digits}f}"
    sd = f"{values.std(ddof=1):.{digits}f}"
    # a line may break before ±, not behind it
    return text if len(values) == 1 or float(sd) == 0 else f"{text} ±\u00a0{sd}"


def score_table(metrics: pd.DataFrame) -> Table:
    """Every model and reference by what its latents say of the test cells."""
    words = (
        "Latents on test cells, mean ± sd over seeds; no ± for a single seed or where all seeds agree. "
        "PCA, NMF, majority and chance are the references. SMI: how far single factors tell single types."
    )
    if (metrics["metric"] == "batch_mixing").any():
        words += " Batch mixing: 1 as by chance within a type, 0 apart."
    return _by_model(metrics, _SCORES, words)


def fit_table(metrics: pd.DataFrame) -> Table:
    """Every model by how it fits held-out cells, and how sparse it is."""
    words = (
        "Fit and sparsity, mean ± sd over seeds. log p (nats) compares models of the same values only: "
        "counts and logarithms do not share a unit."
    )
    return _by_model(metrics[~metrics["model"].isin(list(_REFERENCES))], _FITS, words)


def _by_model(metrics: pd.DataFrame, names: Mapping[str, str], words: str) -> Table:
    """A row per model and number of factors, a column per metric that is there."""
    shown = metrics[metrics["split"].isin(["test", "none"]) & metrics["metric"].isin(list(names))]
    columns = [name for name in names if (shown["metric"] == name).any()]
    groups = list(shown.groupby(["model", "n_factors"], sort=False))
    groups.sort(key=lambda item: item[0][0] in _REFERENCES)
    rows = []
    for (model, k), mine in groups:
        cells = [
            mean_and_sd(mine.loc[mine["metric"] == name, "value"], 1 if name in _ONE_DIGIT else 3)
            for name in columns
        ]
        name = str(model)
        rows.append((_REFERENCES.get(name, name), _NO_VALUE if name in _REFERENCES else str(k), *cells))
    return Table(
        words,
        ("model", "k", *(names[name] for name in columns)),
        tuple(rows),
        n_labels=2,
    )


def stability_table(stability: pd.DataFrame) -> Table:
    """Mean agreement of every model and reference by comparison, and the lowest factor on other cells."""
    columns = [name for name in _COMPARISONS if (stability["comparison"] == name).any()]
    judge = judged_by(stability)
    rows = []
    for (model, k), mine in stability.groupby(["model", "n_factors"], sort=False):
        overall = mine["factor"].astype(str) == "all"
        cells = [
            mean_and_sd(mine.loc[overall & (mine["comparison"] == name), "agreement"]) for name in columns
        ]
        factors = mine[~overall & (mine["comparison"] == judge)].dropna(subset="agreement")
        factors = factors.sort_values("agreement", kind="stable")
        lowest = (
            f"{factors['agreement'].iloc[0]:.3f} ({factors['factor'].iloc[0]})" if len(factors) else _NO_VALUE
        )
        reference = (mine["reference_seed"].astype(str) == "none").all()
        name = f"{model} (reference)" if reference else str(model)
        rows.append((name, str(k), *cells, *([lowest] if judge else [])))
    rows.sort(key=lambda row: row[0].endswith("(reference)"))
    return Table(
        "Agreement of matched factors, |correlation| on test cells, between fits. Halves have no training "
        "cell in common, resamples have most, seeds have all and agree by construction where the start does "
        "not depend on the seed.",
        ("model", "k", *(_COMPARISONS[name] for name in columns), *([f"lowest, {judge}"] if judge else [])),
        tuple(rows),
        n_labels=2,
    )


def factor_agreement(stability: pd.DataFrame, model: str, n_factors: int) -> tuple[str, dict[str, str]]:
    """Agreement of each factor of a model on other cells, and the comparison it comes from ("": none)."""
    judge = judged_by(stability)
    if judge is None:
        return "", {}
    mine = stability[
        (stability["comparison"] == judge)
        & (stability["model"] == model)
        & (stability["n_factors"] == n_factors)
    ].dropna(subset="agreement")
    values = {str(name): f"{value:.2f}" for name, value in _pairs(mine, "factor", "agreement")}
    return judge, {name: value for name, value in values.items() if name != "all"}


def remarks(table: pd.DataFrame) -> list[str]:
    """Every note of a table once, after what TBR's latents and inputs were."""
    said = []
    for column, words in {"latent_source": "Latents: {}", "input_source": "Inputs: {}", "note": "{}"}.items():
        if column in table:
            said += [words.format(text) for text in _distinct(table[column])]
    return said


def factor_rows(
    genes: pd.DataFrame,
    enrichment: pd.DataFrame,
    model: str,
    n_factors: int,
    seed: int,
    *,
    gene_sets_given: bool = True,
    agreement: Mapping[str, str] | None = None,
    n_anchors: Sequence[int] = (),
    n_genes: int = 12,
    n_sets: int = 3,
) -> tuple[FactorRow, ...]:
    """The factors of one fit, f1 first, those without any gene included."""
    mine = _of_fit(genes, model, n_factors, seed)
    mine = mine[mine["loading"] != 0]
    # models without exact zeros list their largest loadings only, whose number means nothing
    counted = mine["inclusion"].notna().any()
    tested = _of_fit(enrichment, model, n_factors, seed)
    tested = tested[tested["method"] == "ora"]
    rows = []
    for place, name in enumerate(f"f{i + 1}" for i in range(n_factors)):
        own = mine[mine["factor"] == name]
        own = own.reindex(own["loading"].abs().sort_values(ascending=False, kind="stable").index)
        overlapping = tested[tested["factor"] == name]
        enriched = overlapping["q_value"] < SIGNIFICANT
        # near-duplicates of better sets are in the table only
        sets = overlapping[enriched & (overlapping["like"] == "")]
        sets = sets.sort_values(["q_value", "p_value", "gene_set"], kind="stable")
        rows.append(
            FactorRow(
                name=name,
                n_genes=str(len(own)) if counted or own.empty else _NO_VALUE,
                n_anchors=str(n_anchors[place]) if place < len(n_anchors) else "",
                agreement=(agreement or {}).get(name, _NO_VALUE),
                genes=tuple((str(g), _signed(v)) for g, v in _pairs(own.head(n_genes), "gene", "loading")),
                n_more_genes=max(0, len(own) - n_genes) if counted else 0,
                sets=tuple(_described(row) for _, row in sets.head(n_sets).iterrows()),
                n_more_sets=max(0, len(sets) - n_sets),
                note=_note(own.empty, gene_sets_given, overlapping.empty, sets.empty),
            )
        )
    return tuple(rows)


def _note(no_genes: bool, given: bool, no_overlap: bool, no_sets: bool) -> str:
    """Why a factor has no gene set; empty where it has one."""
    if no_genes:
        return "dead: no gene has weight"
    if not given:
        return "no gene sets given"
    if no_overlap:
        return "no tested set shares a gene"
    return f"no set at q < {SIGNIFICANT:g}" if no_sets else ""


def _described(row: pd.Series) -> tuple[str, str]:
    """A gene set and its evidence."""
    evidence = f"q\u00a0=\u00a0{_small(row['q_value'])}, {row['n_overlap']} of {row['n_set']} genes"
    if row["direction"] != "both":
        evidence += f", {row['direction']}"
    return str(row["gene_set"]), evidence


def _signed(loading: float) -> str:
    return f"{loading:+.2g}".replace("-", "−")


def _small(q_value: float) -> str:
    """``0.012`` or ``3e-8``."""
    if q_value >= 1e-3:
        return f"{q_value:.3f}"
    mantissa, exponent = f"{q_value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _of_fit(table: pd.DataFrame, model: str, n_factors: int, seed: int) -> pd.DataFrame:
    if table.empty:
        return table
    same_seed = table["seed"].astype(str) == str(seed)
    return table[same_seed & (table["model"] == model) & (table["n_factors"] == n_factors)]


def _pairs(table: pd.DataFrame, one: str, other: str) -> Iterable[tuple[object, float]]:
    return zip(table[one], table[other], strict=True)


def _distinct(column: pd.Series) -> list[str]:
    """The texts of a column, each once, empty ones left out."""
    return [text for text in dict.fromkeys(column.astype(str)) if text and text != "nan"]
