"""The page's section on likelihoods and batches."""

from collections.abc import Callable
from pathlib import Path

from page_tools import Section, absent, flow, markdown, number, read, share, text


def likelihoods(folder: Path) -> Section:
    """Normal and negative binomial likelihood, told the batches or not."""
    title = "Likelihoods and batches"
    table = read(folder, "likelihoods")
    if table.empty:
        return absent(title, "Not measured in this run.")
    keys = ["atlas", "model", "likelihood", "batch"]
    filled = table.fillna({"likelihood": "", "batch": ""})
    grouped = filled.groupby(keys, sort=False)
    means = grouped.mean(numeric_only=True).reset_index()
    spread = grouped["log_likelihood"].std(ddof=1).reset_index(drop=True)
    means["log_likelihood_sd"] = spread
    lines = [
        f"## {title}",
        flow(
            f"`bench/likelihoods.py`: {int(table['n_factors'].iloc[0])} factors, means over "
            f"{table['split'].nunique()} splits. log p: importance-weighted (64 draws), nats per test cell, "
            "of log values (gaussian) or of counts (nb): compare it within a likelihood only. Batch mixing: "
            "among neighbours of a test cell's own type, 1 as by chance, 0 apart; batches here are the "
            "samples, which differ by treatment too, so 1 is not the aim."
        ),
        "",
        *markdown(
            means,
            {
                "atlas": ("atlas", text),
                "model": ("model", text),
                "likelihood": ("likelihood", text),
                "batch": ("batch", text),
                "accuracy": ("accuracy", share),
                "log_likelihood": ("log p", number),
                "log_likelihood_sd": ("sd over splits", number),
                "r2": ("held-out r2", share),
                "batch_mixing": ("batch mixing", share),
                "cpu_seconds": ("CPU s", number),
            },
        ),
    ]
    return Section(lines)


SECTIONS: list[Callable[[Path], Section]] = [likelihoods]
