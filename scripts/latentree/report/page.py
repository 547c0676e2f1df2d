"""report.html: everything about one atlas in one file that needs no other."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from latentree import __version__
from latentree.files import write_text
from latentree.report.batch_verdicts import batch_verdicts
from latentree.report.facts import diagnostic_sentences, facts, software
from latentree.report.group_sentences import group_sentences
from latentree.report.inputs import Inputs, read_inputs
from latentree.report.tables import (
    FactorRow,
    factor_agreement,
    factor_rows,
    fit_table,
    remarks,
    score_table,
    stability_table,
)
from latentree.report.tbr_tables import tbr_section
from latentree.report.tbr_verdicts import tbr_sentences
from latentree.report.verdicts import verdicts

TEMPLATES = Path(__file__).resolve().parent / "templates"
"""Folder of the page's templates: what the page depends on beside Python modules."""

_MODEL_WORDS = {
    "sparse_vae": "Sparse VAE: every gene depends on few factors; loadings with exact zeros.",
    "vae": "Variational autoencoder: loadings are slopes of its decoder, none exactly zero.",
    "beta_vae": "beta-VAE: a VAE with a weight on KL; loadings as the VAE's.",
    "vsc": "Variational sparse coding: each cell switches factors on or off; loadings as the VAE's.",
    "oi_vae": "oi-VAE: factors reach groups of genes (gene sets) or leave them exactly alone.",
    "dd_vae": "VAE with a structured prior (Mathieu et al. 2019); loadings as the VAE's.",
    "intel_vae": "InteL-VAE: normal latents through a mapping (Miao et al. 2022); loadings as the VAE's.",
    "nmf": "Non-negative matrix factorisation.",
    "pca": "Principal component analysis; the reference.",
    "ica": "Independent component analysis (FastICA).",
}


@dataclass(frozen=True)
class Picture:
    """A figure: its data URI, what it shows in words (alt), and the caption below it."""

    uri: str
    alt: str
    caption: str


@dataclass(frozen=True)
class FitSection:
    """One model with one number of factors, as its first seed found it."""

    anchor: str
    model: str
    n_factors: int
    words: str
    remarks: tuple[str, ...]
    pictures: tuple[Picture, ...]
    factors: tuple[FactorRow, ...]
    agreement_of: str  # the comparison that the factors' agreement comes from, "" for none


def write_report(
    results: Path,
    atlas_name: str,
    config: Mapping[str, Any],
    output: Path,
    versions: Mapping[str, str],
    run: Mapping[str, Any] | None = None,
) -> None:
    """Write the page of one atlas.

    Parameters
    ----------
    results
        Folder of the atlas: tables/, qc.json, figures/*.svg of the config, fits/*/k*/seed*/fit.json.
    atlas_name
        Its name in the config.
    config
        The resolved config.
    output
        The HTML file; written whole or not at all.
    versions
        Versions of the other software that this process runs; the fits' own are added.
    run
        More about the run, printed as it is: command, commit, host.

    Raises
    ------
    InputError
        A table that every run writes is missing.
    """
    inputs = read_inputs(Path(results), atlas_name, config)
    write_text(render(inputs, atlas_name, config, versions, run or {}), output)


def render(
    inputs: Inputs,
    atlas_name: str,
    config: Mapping[str, Any],
    versions: Mapping[str, str],
    run: Mapping[str, Any],
) -> str:
    """The page's HTML; the same inputs give the same text."""
    first_seed = int(config["seeds"][0])
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    of_tbr = tbr_sentences(inputs.tbr, inputs.tbr_more)
    batches = batch_verdicts(inputs.metrics, config["atlases"][atlas_name])
    return environment.get_template("report.html.j2").render(
        latentree_version=__version__,
        atlas_name=atlas_name,
        atlas=config["atlases"][atlas_name],
        seeds=config["seeds"],
        first_seed=first_seed,
        verdicts={**verdicts(inputs, config, first_seed), **of_tbr, **batches},
        facts=facts(inputs.qc),
        tree=_picture(
            inputs, "tree.svg", "Tree of the cell types.", "Tree of the cell types (environments)."
        ),
        scores=score_table(inputs.metrics),
        fit_scores=fit_table(inputs.metrics),
        scores_remarks=remarks(inputs.metrics),
        scores_picture=_picture(
            inputs,
            "scores.svg",
            "Accuracy of every model on test cells beside majority and chance; numbers in the table.",
            "Dots are seeds, bars are means.",
        ),
        stability=stability_table(inputs.stability),
        stability_remarks=remarks(inputs.stability),
        stability_picture=_picture(
            inputs,
            "stability.svg",
            "Agreement of matched factors between fits on halves of the cells, on resampled cells and with "
            "other seeds; numbers in the table.",
            "Dots are factors, bars are means; references are grey.",
        ),
        fits=[_fit_section(inputs, i, model, k, first_seed) for i, (model, k) in enumerate(inputs.fits)],
        gene_sets_given=inputs.gene_sets_given,
        enrichment_notes=inputs.enrichment_notes,
        tbr=tbr_section(inputs, remarks),
        tbr_picture=_picture(
            inputs,
            "tbr.svg",
            "Scores of the estimators beside their references; numbers in the table.",
            "Marks are seeds; grey lines are the reference levels.",
        ),
        tbr_tree=_picture(
            inputs,
            "tbr_tree.svg",
            "Tree of the cell types with a triangle on every branch where an effect changes; numbers in the"
            " table.",
            "Triangles: effects of latents that change on the branch to the right of them, sized by the"
            " change."
            " Branches below a root without cells share one change.",
        ),
        qc=inputs.qc,
        settings=yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=90),
        versions=software({"latentree": __version__, **versions}, inputs.summaries.values()),
        run=run,
    )


def _picture(inputs: Inputs, name: str, alt: str, caption: str) -> Picture | None:
    uri = inputs.pictures.get(name)
    return None if uri is None else Picture(uri, alt, caption)


def _fit_section(inputs: Inputs, number: int, model: str, n_factors: int, seed: int) -> FitSection:
    """Pictures and factors of one fit."""
    fit = f"{model}, k = {n_factors}"
    pictures = [
        _picture(
            inputs,
            f"embedding_{model}_k{n_factors}.svg",
            f"t-SNE of the latents of {fit}, cells coloured and numbered by cell type.",
            "t-SNE of the latents, each scaled to unit variance; distances between groups mean little.",
        ),
        _picture(
            inputs,
            f"umap_{model}_k{n_factors}.svg",
            f"UMAP of the latents of {fit}, cells coloured and numbered by cell type.",
            "UMAP of the same latents.",
        ),
        _picture(
            inputs,
            f"usage_{model}_k{n_factors}.svg",
            f"Usage of the factors of {fit} by cell type: numbers in tables/usage.tsv.",
            "Usage by cell type: colour is the mean, size the share of the type's cells.",
        ),
        _picture(
            inputs,
            f"conditions_{model}_k{n_factors}.svg",
            f"Differences of the factors of {fit} between conditions: numbers in tables/conditions.tsv.",
            "Differences between conditions over samples: all types with intervals, then by cell type.",
        ),
        _picture(
            inputs,
            f"loadings_{model}_k{n_factors}.svg",
            f"Heat map of the top genes of every factor of {fit}; the table below names them.",
            "Top genes (rows) of all factors (columns); white is zero.",
        ),
        _picture(
            inputs,
            f"training_{model}_k{n_factors}.svg",
            f"Training curves of {fit}: parts of the loss against the epoch.",
            "Training: the loss by its parts, per epoch.",
        ),
        _picture(
            inputs,
            f"groups_{model}_k{n_factors}.svg",
            f"Heat map of the gene sets that the factors of {fit} move, beside the permuted control's.",
            "Gene sets (rows) that each factor (column) moves most; right: sets of random genes.",
        ),
    ]
    agreement_of, agreement = factor_agreement(inputs.stability, model, n_factors)
    summaries = {
        s: summary for (m, k, s), summary in inputs.summaries.items() if (m, k) == (model, n_factors)
    }
    return FitSection(
        anchor=f"fit-{number + 1}",
        model=model,
        n_factors=n_factors,
        words=_MODEL_WORDS.get(model, ""),
        remarks=(
            *diagnostic_sentences(summaries.get(seed, {})),
            *group_sentences(inputs.groups, model, n_factors, seed),
            *_notes(summaries, seed),
        ),
        pictures=tuple(picture for picture in pictures if picture is not None),
        factors=factor_rows(
            inputs.genes,
            inputs.enrichment,
            model,
            n_factors,
            seed,
            gene_sets_given=inputs.gene_sets_given,
            agreement=agreement,
            n_anchors=(summaries.get(seed, {}).get("diagnostics") or {}).get("n_anchors", ()),
        ),
        agreement_of=agreement_of,
    )


def _notes(summaries: Mapping[int, Mapping[str, Any]], first_seed: int) -> tuple[str, ...]:
    """What the seeds' fit.json say that a reader must know."""
    notes = [str(note) for note in summaries.get(first_seed, {}).get("notes", [])]
    stopped = [str(seed) for seed, summary in summaries.items() if summary.get("converged") is False]
    if stopped:
        notes.insert(0, f"Not converged within its epochs or iterations: seed {', '.join(stopped)}.")
    return tuple(notes)
