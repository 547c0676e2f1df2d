"""What heads the page (counts of qc.json), how a fit was made, and the versions that end the page."""

from collections.abc import Iterable, Mapping
from typing import Any

_SCALES = {
    "log1p_cp10k": "log1p of counts per 10,000",
    "as_found": "the atlas's own values, taken as they are (it has no counts)",
}
_IN_FITS = " (fits)"


def facts(qc: Mapping[str, Any]) -> dict[str, str]:
    """Cells, genes, types and values of the atlas in words; what qc.json does not say is left out."""
    found = {
        "organism": _at(qc, "organism"),
        "cells": _kept(qc, "cells") + _split_words(_at(qc, "split", "n_cells")),
        "genes": _kept(qc, "genes") + _with(", {:,} modelled", _at(qc, "gene_selection", "n_modelled")),
        "cell types": _types(_at(qc, "cell_types")),
        "values": _SCALES.get(str(_at(qc, "scale", "x")), ""),
    }
    return {name: str(value) for name, value in found.items() if value}


def n_test_cells(qc: Mapping[str, Any]) -> int | None:
    """Number of test cells; None where qc.json does not say."""
    count = _at(qc, "split", "n_cells", "test")
    return None if count is None else int(count)


def software(own: Mapping[str, str], summaries: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Versions by name: of the process that writes the page and of the fits, where they say others."""
    versions = dict(own)
    for summary in summaries:
        for name, of_fit in summary.get("versions", {}).items():
            said = versions.setdefault(name, of_fit)
            if of_fit not in said.replace(_IN_FITS, "").split(", "):
                versions[name] = f"{said}, {of_fit}{_IN_FITS}"
    return versions


def _at(value: Any, *path: str) -> Any:
    """The value at a place in nested mappings, or None."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _with(words: str, count: Any) -> str:
    return "" if count is None else words.format(count)


def _kept(qc: Mapping[str, Any], what: str) -> str:
    kept, n_found = _at(qc, what, "n_kept"), _at(qc, what, "n_found")
    return _with("{:,}", kept) + ("" if kept == n_found else _with(" of {:,} found", n_found))


def _split_words(sizes: Mapping[str, int] | None) -> str:
    return "" if not sizes else ": " + ", ".join(f"{count:,} {name}" for name, count in sizes.items())


def _types(rows: list[Mapping[str, Any]] | None) -> str:
    return (
        "" if not rows else f"{len(rows)}: " + ", ".join(f"{r['cell_type']} ({r['n_cells']:,})" for r in rows)
    )


def diagnostic_sentences(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """How a fit was made and how far it meets its model's conditions, from fit.json; or nothing.

    What fit.json does not say, because an earlier version wrote it, is left out.
    """
    found = summary.get("diagnostics")
    if not found:
        return ()
    made = [words.format(value) for words, value in _made(summary, found) if value]
    sentences = [", ".join(made) + _compared(found.get("start_explained")) + "." if made else ""]
    if {"anchored_factors", "n_alive", "covariance_ratio"} <= found.keys():
        sentences.append(
            f"{found['anchored_factors']} of {found['n_alive']} living factors have two or more genes of "
            "their own, as the paper's condition for identifiable factors asks; two factors covary at most "
            f"{found['covariance_ratio']:.2f} times the smaller of their variances (the condition: below 1)."
        )
    if found.get("curve_gain") is not None:
        sentences.append(
            f"The decoder's curves save {found['curve_gain']:.1%} of the held-out error that straight lines "
            "on the same factors leave."
        )
    return tuple(sentence for sentence in sentences if sentence)


def _made(summary: Mapping[str, Any], found: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What was decided for a fit: words, and the value that they are to hold."""
    resolved = summary.get("resolved") or {}
    likelihoods = {
        "nb": "negative binomial on counts",
        "gaussian": "normal",
        "laplace": "Laplace",
        "bernoulli": "Bernoulli",
    }
    return [
        ("Likelihood {}", likelihoods.get(resolved.get("likelihood", ""))),
        ("{} decoder", resolved.get("decoder")),
        ("input {}", resolved.get("input")),
        ("posterior mean {}", resolved.get("encoder_mean")),
        ("start {}", found.get("start")),
    ]


def _compared(explained: Mapping[str, float] | None) -> str:
    shares = [f"{name} {share:.0%}" for name, share in sorted((explained or {}).items())]
    return f" (of a feature they explain without it: {', '.join(shares)})" if shares else ""
