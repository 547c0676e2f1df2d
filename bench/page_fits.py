"""The page's sections on what fits are worth: real cells, and data with known factors."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from page_tools import (
    Bar,
    Section,
    absent,
    at_least,
    at_most,
    flow,
    markdown,
    number,
    read,
    share,
    text,
    whole,
)

_ORDER = [
    "sparse_vae", "pca_same_input", "pca_varimax", "varimax_start", "pca", "nmf", "vae", "LinearSCVI", "SCVI",
]  # fmt: skip
_SCORES = {
    "zeros": ("exact zeros", share),
    "accuracy": ("accuracy", share),
    "balanced_accuracy": ("balanced", share),
    "agreement_resamples": ("80% resamples", share),
    "agreement_halves": ("disjoint halves", share),
    "chance_halves": ("halves by chance", share),
    "r2": ("held-out r2", share),
    "cpu_seconds": ("CPU s", number),
}


def cells(folder: Path) -> Section:
    """Default settings on real cells."""
    title = "Real cells, default settings"
    table = read(folder, "cells_*")
    if table.empty:
        return absent(title, "Not measured in this run: no atlas was found in the folder of data.")
    table = table[table["part"] == "default"]
    n_splits = table.groupby(["atlas", "model"])["split"].nunique()
    n_peer = int(n_splits.xs("SCVI", level="model").max()) if "SCVI" in set(table["model"]) else 0
    k = int(table["n_factors"].iloc[0])
    means = _means(table)
    lines = [
        f"## {title}",
        flow(
            f"`bench/cells.py`: {k} factors, genes chosen on training cells, means over "
            f"{int(n_splits.max())} splits. Accuracy: logistic regression on standardised latents, test "
            "cells. Agreement: mean |correlation| of matched factors on test cells between fits to random "
            "80% of the cells, and to disjoint halves (two fits each per split). r2: log values of held-out "
            "cells, genes at unit training variance; blank where a model predicts something else. PCA and "
            "varimax see the matrix that the Sparse VAE's start and encoder see (pca: log values); "
            "pca_varimax is the textbook rotation, varimax_start the scores at which the Sparse VAE starts. "
            "LinearSCVI and SCVI: counts of the same genes, 200 epochs, scvi-tools' own settings, latents "
            f"by posterior means{f'; SCVI on {n_peer} split(s)' if n_peer else ''}. Labels of zheng2017 are "
            "confounded with sequencing runs: rank nothing on it alone."
        ),
        "",
    ]
    if not n_peer:
        lines += ["scvi-tools was not installed for this run, so its rows are missing.", ""]
    lines += markdown(means, {"atlas": ("atlas", text), "model": ("model", text), **_SCORES})
    return Section(lines, _cell_bars(means))


def _means(table: pd.DataFrame) -> pd.DataFrame:
    """Means over splits, models in one order in every atlas."""
    means = table.drop(columns=["part", "split"]).groupby(["atlas", "model"], as_index=False).mean()
    order = {name: place for place, name in enumerate(_ORDER)}
    return means.sort_values(
        ["atlas", "model"], key=lambda column: column.map(order) if column.name == "model" else column
    )


def _cell_bars(means: pd.DataFrame) -> list[Bar]:
    """The targets of default fits; each number is an atlas's."""
    wide = means.pivot(index="atlas", columns="model")
    ours = {key: wide[key]["sparse_vae"] for key in _SCORES}
    # the textbook's rotation; varimax_start is a part of our own model
    halves = wide["agreement_halves"]["pca_varimax"]
    accuracy = wide["accuracy"]
    bars = [
        at_least("exact zeros in W", ours["zeros"], 0.8, share),
        at_least("accuracy beside VAE", ours["accuracy"], accuracy["vae"], share, "VAE's"),
        at_least(
            "accuracy beside PCA on the same input",
            ours["accuracy"],
            accuracy["pca_same_input"] - 0.01,
            share,
            "PCA's − .01",
        ),
        at_least("agreement over 80% resamples", ours["agreement_resamples"], 0.73, share),
        at_least(
            "agreement over disjoint halves",
            ours["agreement_halves"],
            halves + 0.03,
            share,
            "PCA + varimax's + .03",
        ),
    ]
    if "LinearSCVI" in accuracy:
        bars.append(
            at_least(
                "accuracy beside LinearSCVI",
                ours["accuracy"],
                accuracy["LinearSCVI"] - 0.01,
                share,
                "its − .01",
            )
        )
        eighth = wide["cpu_seconds"]["LinearSCVI"] / 8
        bars.append(at_most("CPU seconds of a fit", ours["cpu_seconds"], eighth, number, "LinearSCVI's / 8"))
    return bars


def gaussian(folder: Path) -> Section:
    """The Gaussian likelihood beside VAEs."""
    title = "Real cells, Gaussian likelihood"
    table = read(folder, "cells_*")
    if table.empty:
        return absent(title)
    table = table[table["part"] == "gaussian"]
    means = table.drop(columns=["part", "split"]).groupby(["atlas", "model"], as_index=False).mean()
    k = int(table["n_factors"].iloc[0])
    lines = [
        f"## {title}",
        flow(
            f"The same splits, {k} factors, beside VAEs of two learning rates (the number after vae_). mse: "
            "test cells, log values of each gene in units of its training sd."
        ),
        "",
        *markdown(
            means,
            {
                "atlas": ("atlas", text),
                "model": ("model", text),
                "zeros": ("exact zeros", share),
                "mse": ("held-out mse", share),
                "accuracy": ("accuracy", share),
                "alive": ("factors alive", number),
                "cpu_seconds": ("CPU s", number),
            },
        ),
    ]
    wide = means.pivot(index="atlas", columns="model")
    vaes = [name for name in wide["mse"] if name.startswith("vae_")]
    best = wide["mse"][vaes].min(axis=1)
    bars = [
        at_least("exact zeros in W, Gaussian", wide["zeros"]["sparse_vae_gaussian"], 0.75, share),
        at_most(
            "held-out mse, Gaussian",
            wide["mse"]["sparse_vae_gaussian"],
            1.02 * best,
            share,
            "1.02 × the better VAE's",
        ),
    ]
    return Section(lines, bars)


_JUDGED = {
    "dci": ("DCI", share),
    "least_dci": ("least DCI", share),
    "mse": ("held-out mse", number),
    "noise_floor": ("noise", number),
    "wrong_entries": ("wrong entries of W", number),
    "entries": ("of", whole),
    "alive": ("factors alive", number),
    "true_factors": ("true", whole),
    "collapsed": ("collapsed fits", whole),
    "cpu_seconds": ("CPU s", number),
}


def _medians(table: pd.DataFrame) -> pd.DataFrame:
    """Medians over data sets, and how many fits collapsed."""
    grouped = table.groupby(["truth", "model"], as_index=False, sort=False)
    medians = grouped.median(numeric_only=True)
    medians["least_dci"] = grouped["dci"].min()["dci"]
    medians["collapsed"] = grouped["collapsed"].sum()["collapsed"]
    return medians.sort_values("truth", kind="stable")


def _judged_table(medians: pd.DataFrame) -> list[str]:
    return markdown(medians, {"truth": ("data", text), "model": ("model", text), **_JUDGED})


def synthetic(folder: Path) -> Section:
    """The paper's synthetic data, default settings."""
    title = "Synthetic data of the paper, default settings"
    table = read(folder, "synthetic_default")
    if table.empty:
        return absent(title)
    medians = _medians(table)
    wide = medians.pivot(index="truth", columns="model")
    ours = {key: wide[key]["sparse_vae"] for key in ("dci", "mse", "wrong_entries", "alive", "collapsed")}
    lines = [
        f"## {title}",
        flow(
            "`bench/synthetic.py`: 1,000 cells, 7 features, 2 true factors of which 5 are fitted; medians "
            f"over {table['set'].nunique()} data sets, half of the cells held out as in the paper. DCI and "
            "error on held-out cells; entries of W against the truth after matching factors by correlation, "
            "every entry of a factor without partner counting as wrong. vae: the library's defaults; "
            "vae_best: of the settings tried the ones with the lowest error (no dropout, learning rate "
            ".005, 200 epochs), which copies the noise: with 5 factors for 7 features an error near or "
            "under the noise's own variance is no merit."
        ),
        "",
        *_judged_table(medians),
    ]
    bars = [
        at_least("paper's data: median DCI", ours["dci"], 0.95, share),
        at_most("paper's data: held-out mse", ours["mse"], 0.9 * wide["mse"]["vae"], number, ".9 × VAE's"),
        at_most("paper's data: wrong entries of W", ours["wrong_entries"], 3.0, number),
        at_most("paper's data: factors alive, off by", (ours["alive"] - 2).abs(), 0.0, number),
        at_most("paper's data: collapsed fits", ours["collapsed"], 0.0, number),
    ]
    return Section(lines, bars)


def truths(folder: Path) -> Section:
    """Truths of our own."""
    title = "Synthetic data of our own, default settings"
    table = read(folder, "synthetic_truths")
    if table.empty:
        return absent(title)
    table["off"] = (table["alive"] - table["true_factors"]).abs()
    medians = _medians(table)
    wide = medians.pivot(index="truth", columns="model")
    lines = [
        f"## {title}",
        flow(
            "`latentree.synthetic.TRUTHS`: 4 to 8 factors (correlated up to .6), 36 to 200 features, curves "
            "that rise and that do not, interactions, a fifth of the features noise; fitted with three "
            f"factors too many or twice as many. Medians over {table['set'].nunique()} data sets, half of "
            "the cells held out."
        ),
        "",
        *_judged_table(medians),
    ]
    bars = [
        at_least("own truths: median DCI", wide["dci"]["sparse_vae"], 0.9, share),
        at_least(
            "own truths: DCI beside VAE",
            wide["dci"]["sparse_vae"],
            wide["dci"]["vae"] + 0.2,
            share,
            "VAE's + .2",
        ),
        at_most("own truths: factors alive, off by (median)", wide["off"]["sparse_vae"], 1.0, number),
    ]
    return Section(lines, bars)


def paper(folder: Path) -> Section:
    """``recipe: paper``."""
    title = "Synthetic data of the paper, `recipe: paper`"
    table = read(folder, "synthetic_paper")
    if table.empty:
        return absent(title)
    medians = _medians(table)
    wide = medians.pivot(index="truth", columns="model")
    lines = [
        f"## {title}",
        flow(
            "The paper's model and schedule (200 epochs, batches of 100) beside its VAE; medians over "
            f"{table['set'].nunique()} data sets."
        ),
        "",
        *_judged_table(medians),
    ]
    bars = [
        at_least(
            "recipe: paper: DCI above VAE's",
            wide["dci"]["sparse_vae_paper"],
            wide["dci"]["vae_paper"],
            share,
            "VAE's",
        )
    ]
    return Section(lines, bars)


def accuracy(folder: Path) -> Section:
    """The older comparison with PCA, which is paired by split."""
    title = "Accuracy beside PCA, 10 factors"
    table = read(folder, "accuracy")
    if table.empty:
        return absent(title)
    lines = [
        f"## {title}",
        flow(
            "`bench/accuracy.py`: defaults of every model, differences to PCA on log values paired by "
            "split, with their standard error. Defaults were chosen on these atlases, so expect slight "
            "optimism."
        ),
        "",
        *markdown(
            table,
            {
                "atlas": ("atlas", text),
                "k": ("factors", whole),
                "model": ("model", text),
                "accuracy": ("accuracy", share),
                "difference": ("difference to PCA", share),
                "standard_error": ("s.e.", share),
                "zeros": ("exact zeros", share),
                "r2_scaled": ("held-out r2", share),
                "cpu_seconds": ("CPU s", number),
            },
        ),
    ]
    return Section(lines)


def ablation(folder: Path) -> Section:
    """One setting of the robust recipe changed at a time."""
    title = "What each part of the recipe is worth"
    table = read(folder, "ablation")
    if table.empty:
        return absent(title, "Not measured in this run.")
    columns = {"variant": ("variant", text), "alive": ("alive", whole), **_SCORES}
    means = table.drop(columns=["split", "model"]).groupby(["atlas", "variant"], sort=False).mean()
    lines = [
        f"## {title}",
        flow(
            f"`bench/ablation.py`: {int(table['n_factors'].iloc[0])} factors, "
            f"{int(table['split'].nunique())} split(s), one setting changed at a time; columns as above. "
            "One accuracy has a standard error of about .014. Every fit has a seed of its own, so random "
            "starts do not agree by their random numbers."
        ),
        "",
        *markdown(means.reset_index(), {"atlas": ("atlas", text), **columns}),
    ]
    return Section(lines, [])


SECTIONS: list[Callable[[Path], Section]] = [cells, gaussian, ablation, synthetic, truths, paper, accuracy]
