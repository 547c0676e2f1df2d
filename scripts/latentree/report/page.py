"""report.html: everything about one atlas in one file that needs no other."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from latentree import __version__
from latentree.files import write_text
from latentree.report.factor_sections import fit_section
from latentree.report.facts import facts, software
from latentree.report.inputs import Inputs, read_inputs
from latentree.report.overview import overview
from latentree.report.pictures import picture
from latentree.report.tables import (
    consensus_table,
    enrichment_table,
    fit_table,
    n_factors_table,
    remarks,
    score_table,
    stability_table,
)
from latentree.report.tbr_tables import tbr_section

TEMPLATES = Path(__file__).resolve().parent / "templates"
"""Folder of the page's templates: what the page depends on beside Python modules."""


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
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    return environment.get_template("report.html.j2").render(
        latentree_version=__version__,
        atlas_name=atlas_name,
        atlas=config["atlases"][atlas_name],
        seeds=config["seeds"],
        first_seed=first_seed,
        overview=overview(inputs, config, atlas_name),
        facts=facts(inputs.qc),
        pictures={
            name: picture(inputs, name)
            for name in ("tree", "scores", "stability", "n_factors", "sparsity", "tbr", "tbr_tree")
        },
        scores=score_table(inputs.metrics),
        fit_scores=fit_table(inputs.metrics),
        scores_remarks=remarks(inputs.metrics),
        stability=stability_table(inputs.stability),
        stability_remarks=remarks(inputs.stability),
        consensus=consensus_table(inputs.consensus),
        n_factors=n_factors_table(inputs.n_factors),
        enrichment=enrichment_table(inputs.enrichment_summary),
        fits=[fit_section(inputs, model, k, first_seed) for model, k in inputs.fits],
        enrichment_notes=inputs.enrichment_notes,
        tbr=tbr_section(inputs, remarks),
        qc=inputs.qc,
        settings=yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=90),
        versions=software({"latentree": __version__, **versions}, inputs.summaries.values()),
        run=run,
        script=Markup(script),
        script_hash=script_hash(script),
    )


def script_hash(script: str) -> str:
    """What the page's policy names the one script by that may run."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
