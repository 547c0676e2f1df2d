"""The page's section on planted programs: consensus, stability, choice of K, sets."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from page_tools import Bar, Section, absent, at_least, at_most, flow, markdown, read, text, whole

TITLE = "Planted programs"
_AT = "sets first, k="
_COLUMNS = {
    "recommended": "recommended K",
    "found by loadings": "found, loadings",
    "found by scores": "found, scores",
    "stable": "called stable",
    "stable below .9": "stable, below .9",
    "stable below .7": "stable, below .7",
    "sets first": "planted set first",
}


def planted_programs(folder: Path) -> Section:
    """A row per simulated atlas and K: programs found, what is called stable, sets, the recommended K."""
    answers = read(folder, "consensus")
    if answers.empty:
        return absent(TITLE)
    planted = int(answers["question"].str.extract(f"^{_AT}(\\d+)$")[0].dropna().iloc[0])
    table = _by_k(answers)
    lines = [
        f"## {TITLE}",
        flow(
            f"`bench/consensus.py`: simulated counts of cells that use {planted} sparse programs, 20% of the "
            "genes in none; the default Sparse VAE. A program is found where a consensus factor's "
            "|correlation| with it is at least .9 (of loadings, and of scores on test cells). A factor "
            "called stable that is below .9 or .7 with every program, by loadings and by scores, is a "
            f"mixture or an invention: with fewer than {planted} factors mixtures are what there is to find."
        ),
        "",
        *markdown(table, {"data_seed": ("data seed", text), "k": ("K", text)} | _headings()),
    ]
    return Section(lines, _bars(table, planted))


def _by_k(answers: pd.DataFrame) -> pd.DataFrame:
    """Columns data_seed, k and those of ``_COLUMNS``; what holds for all K stands in every row."""
    parts = answers["question"].str.extract(r"^(?P<what>.*?)(?:, k=(?P<k>\d+))?$")
    by_k = answers.assign(what=parts["what"], k=parts["k"].astype(float))
    table = by_k.dropna(subset="k").pivot(index=["data_seed", "k"], columns="what", values="value")
    general = by_k[by_k["k"].isna()].pivot(index="data_seed", columns="what", values="value")
    table = table.reset_index().merge(general.reset_index(), on="data_seed")
    return table.assign(data_seed=table["data_seed"].astype(str), k=table["k"].astype(int).astype(str))


def _headings() -> dict[str, tuple[str, Callable[[object], str]]]:
    return {name: (heading, whole) for name, heading in _COLUMNS.items()}


def _bars(table: pd.DataFrame, planted: int) -> list[Bar]:
    at = table[table["k"] == str(planted)].set_index("data_seed")
    return [
        at_least("planted programs found by loadings, K as planted", at["found by loadings"], 7.0, whole),
        at_most(
            "stable factors below .9 with every program, K as planted", at["stable below .9"], 0.0, whole
        ),
        at_most(
            "recommended K from the planted one",
            (at["recommended"] - planted).abs(),
            1.0,
            whole,
        ),
        at_least("programs whose planted set comes first", at["sets first"], float(planted), whole),
    ]


SECTIONS: list[Callable[[Path], Section]] = [planted_programs]
