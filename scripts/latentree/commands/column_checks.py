"""Columns of obs that are there and cannot be what the config says they are; and what they leave out."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from latentree.atlas.cleaning import checked_library_size, labels_of
from latentree.atlas.splitting import split_donors
from latentree.conditions import Design
from latentree.config import AtlasSettings, Config
from latentree.errors import InputError, listed, nearest
from latentree.input_checks import is_known, noted
from latentree.tbr_phenotype import measured_phenotype


def labels_in(obs: pd.DataFrame, column: str | None) -> np.ndarray | None:
    """A column's labels (n_cells,); None where the config names none or the file has none of that name."""
    return labels_of(obs[column]) if is_known(column) and column in obs.columns else None


def missing_in(labels: np.ndarray) -> np.ndarray:
    """(n_cells,) whether a cell has no label."""
    return np.array([label is None for label in labels], dtype=bool)


def column_problems(
    obs: pd.DataFrame,
    labels: np.ndarray,
    kept: np.ndarray,
    atlas: AtlasSettings,
    config: Config,
    key: Callable[[str], str],
) -> list[InputError]:
    """What is wrong with the columns beside cell_type.

    Parameters
    ----------
    obs
        The atlas's table of cells, (n_cells, ...).
    labels, kept
        Cell types (n_cells,) and the cells that the atlas stage will keep, (n_cells,) bool.
    key
        How messages call a setting of the atlas.
    """
    found: list[InputError] = []
    for column in (atlas.split_by, atlas.batch):
        values = labels_in(obs, column)
        if values is not None:
            kept = kept & ~missing_in(values)
    donors = labels_in(obs, atlas.split_by)
    if donors is not None and kept.any():
        names, codes = np.unique(labels[kept].astype(str), return_inverse=True)
        preprocess = config.preprocess
        fractions = (preprocess.test_fraction, preprocess.validation_fraction)
        with noted(found):
            split_donors(donors[kept], codes, list(names), fractions, preprocess.seed, key("split_by"))
    found += _batch_problems(obs, kept, atlas, config, key)
    if is_known(atlas.library_size) and atlas.library_size in obs.columns:
        with noted(found):
            checked_library_size(obs, str(atlas.library_size), key("library_size"), atlas.path)
    try:
        _design(obs[kept], atlas)
    except InputError as error:
        where = error.where.replace("atlas key ", key(""))
        found.append(InputError(where, f"{atlas.path}: {error.problem}", error.remedy))
    phenotype = None if config.tbr is None else config.tbr.phenotype
    if phenotype is not None and {phenotype.column} <= set(obs) and {phenotype.donor} - {None} <= set(obs):
        with noted(found):
            measured_phenotype(obs[kept], phenotype)
    return found


def _batch_problems(
    obs: pd.DataFrame, kept: np.ndarray, atlas: AtlasSettings, config: Config, key: Callable[[str], str]
) -> Iterator[InputError]:
    """Batches of the atlas, and of the models that name a column of their own."""
    named = {key("batch"): atlas.batch}
    for model, chosen in config.models.listed().items():
        named[f"config key models.{model}.batch"] = getattr(chosen, "batch", None)
    for where, column in named.items():
        batches = labels_in(obs[kept], column)
        if batches is None or not len(batches):
            continue
        missing = missing_in(batches)
        n_levels = len(set(batches[~missing].tolist()))
        if missing.any():
            said = f"{int(missing.sum())} of {len(batches)} cells of {atlas.path} have no {column}"
            remedy = "Name it in batch of the atlas, which drops such cells, or drop them yourself"
            yield InputError(where, said, remedy)
        if n_levels > max(1, len(batches) / 2):
            said = f"{column!r} has {n_levels} different values in {len(batches)} cells"
            yield InputError(where, said, "Name a column of batches, each of many cells")


def _design(obs: pd.DataFrame, atlas: AtlasSettings) -> Design | None:
    """What is compared in the kept cells ``obs``; None where nothing is that is there."""
    if not is_known(atlas.condition) or atlas.condition not in obs or obs.empty:
        return None
    sample = atlas.sample if atlas.sample in obs else None
    # comparison_notes says itself what is left out
    logger = logging.getLogger("latentree.conditions")
    logger.addFilter(_silent)
    try:
        return Design.of(obs, str(atlas.condition), sample, atlas.reference)
    finally:
        logger.removeFilter(_silent)


def _silent(_: logging.LogRecord) -> bool:
    return False


def comparison_notes(obs: pd.DataFrame, atlas: AtlasSettings) -> Iterator[str]:
    """Conditions of the kept cells ``obs`` that have too few samples for a test."""
    try:
        design = _design(obs, atlas)
    except InputError:
        return  # said among the problems
    if design is None:
        return
    if n_without := len(obs) - len(design.table):
        yield f"{n_without:,} cells have no condition or sample and are left out of the comparison"
    if not design.has_samples:
        yield "conditions are compared without a test, because no column of samples is named"
        return
    samples = design.table.groupby("condition")["sample"].agg(set)
    reference = samples[design.reference]
    untested = [
        other
        for other in design.others
        if len(samples[other] & reference) < 2 and min(len(samples[other]), len(reference)) < 2
    ]
    if untested:
        why = "the reference" if len(reference) < 2 else "each of them"
        yield (
            f"{listed(untested)} compared with {design.reference!r} without a test, because {why} has one"
            " sample only"
        )


def confounded_notes(obs: pd.DataFrame, labels: np.ndarray, atlas: AtlasSettings) -> Iterator[str]:
    """Columns that tell no more than another does, among the kept cells ``obs`` of types ``labels``."""
    groups = {"cell type": labels, "condition": labels_in(obs, atlas.condition)}
    batches = labels_in(obs, atlas.batch)
    for what, values in groups.items():
        if batches is not None and values is not None and _lie_in(batches, values):
            yield f"every batch in {atlas.batch} is of one {what}: models that are told it lose what differs"
    conditions = groups["condition"]
    if conditions is not None and _lie_in(labels, conditions):
        yield f"no cell type has cells of two values of {atlas.condition}: none can be compared"


def _lie_in(values: np.ndarray, groups: np.ndarray) -> bool:
    """Whether all cells of a value are of the same group, where there are both."""
    known = ~missing_in(values) & ~missing_in(groups)
    pairs = set(zip(values[known], groups[known], strict=True))
    return 1 < len({value for value, _ in pairs}) == len(pairs)


def label_notes(obs: pd.DataFrame, labels: np.ndarray, atlas: AtlasSettings, least: int) -> Iterator[str]:
    """Why cells will be dropped and how many, as the atlas stage does it; and labels that are hardly meant.

    Parameters
    ----------
    labels
        Cell types, (n_cells,).
    least
        Cells that a type needs.
    """
    left = np.ones(len(obs), dtype=bool)
    reasons = []
    for column in (atlas.split_by, atlas.batch):
        values = labels_in(obs, column)
        if values is not None:
            reasons.append((f"no value in {column}", missing_in(values)))
    reasons.append((f"no label in {atlas.cell_type}", missing_in(labels)))
    reasons.append(("an ignored label", np.isin(labels.astype(str), atlas.ignore_cell_types)))
    said = []
    for reason, dropped in reasons:
        if n_dropped := int((left & dropped).sum()):
            said.append(f"{n_dropped:,} with {reason}")
        left &= ~dropped
    small = {name: size for name, size in sorted(Counter(labels[left].tolist()).items()) if size < least}
    if small:
        said.append(f"{sum(small.values()):,} of types of fewer than {least} cells ({listed(small)})")
    if said:
        yield f"cells that will be dropped: {', '.join(said)}"
    known = sorted({label for label in labels if label is not None})
    alike: dict[str, list[str]] = {}
    for label in known:
        alike.setdefault(" ".join(label.split()).casefold(), []).append(label)
    for twins in alike.values():
        if len(twins) > 1:
            yield f"labels that differ in blanks or case only are different cell types: {listed(twins)}"
    for label in sorted(set(atlas.ignore_cell_types) - set(known)):
        yield f"ignore_cell_types: no cell has the label {label!r}{nearest(label, known)}"
