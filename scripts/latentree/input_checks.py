"""All that is wrong with a config and the files that it names, as far as it can be known before any job.

The Snakefile asks here and so does ``latentree check``, which looks further into the atlases
(:mod:`latentree.commands.atlas_checks`). Imports nothing heavy before it is needed.
"""

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from latentree.builtin_atlases import builtin_path
from latentree.config import RESERVED_NAMES, AtlasSettings, Config, problem_in_words
from latentree.enrichment_config import library_name
from latentree.errors import InputError, listed, nearest
from latentree.gene_sets import holds_regulons, read_gmt, read_sets
from latentree.obs_columns import atlas_size, obs_columns, require_obs_column
from latentree.tbr_config import TBRConfig

Locate = Callable[[str], str]
"""From a file as the config names it to where it is."""

AtlasCheck = Callable[[str, AtlasSettings, Config, Path], list[InputError]]
"""What is wrong with an atlas that lies here: its name, its settings, the config, and the file."""

OBS_KEYS = ("cell_type", "split_by", "library_size", "batch", "condition", "sample")
"""Keys of an atlas that name a column of obs, as far as the atlas has them."""

_UNKNOWN = "\x00"
"""Stands for what the config does not say, so that the rest of it can be looked at."""

_STAND_INS: dict[str, Any] = {"path": _UNKNOWN, "cell_type": _UNKNOWN, "models": {"pca": {}}}
# a mended part can show another that was hidden behind it
_ROUNDS = 20


def problems(values: Mapping[str, Any], locate: Locate, look: AtlasCheck | None = None) -> list[InputError]:
    """Everything wrong with a config and with the files that it names.

    A config that does not validate has its files looked at all the same, as far as it names them.

    Parameters
    ----------
    values
        The config as read from YAML.
    locate
        Where a file that the config names is.
    look
        How an atlas's file is checked; None: by what its header says, in milliseconds.
    """
    found, usable = usable_config(values)
    if usable is not None:
        found += file_problems(usable, locate, look or header_problems)
    return list({str(problem): problem for problem in found}.values())


def in_words(found: Sequence[InputError]) -> str:
    """One message of all problems, a line each."""
    if len(found) == 1:
        return str(found[0])
    return f"{len(found)} problems\n" + "\n".join(f"- {problem}" for problem in found)


@contextmanager
def noted(found: list[InputError]) -> Iterator[None]:
    """Put the block's :class:`InputError` into the list instead of raising it."""
    try:
        yield
    except InputError as error:
        found.append(error)


def is_known(value: str | None) -> bool:
    """Whether a path or column is one that the config names, and no stand-in for what it does not say."""
    return value is not None and value != _UNKNOWN


# ---- the config itself


def usable_config(values: Mapping[str, Any]) -> tuple[list[InputError], Config | None]:
    """The config's own problems, and what of it is usable: defaults in the place of what is wrong.

    None where not even an atlas is named.
    """
    found: dict[str, InputError] = {}
    left = copy.deepcopy(dict(values))
    for number in range(_ROUNDS):
        try:
            return list(found.values()), Config.model_validate(left)
        except ValidationError as error:
            for details in error.errors():
                said = problem_in_words(details)
                # later ones that are missing are those that were taken out here
                if number == 0 or details["type"] != "missing":
                    remedy = "Mend this key; config/README.md explains every key"
                    found.setdefault(said, InputError("config", said, remedy))
                _take_out(left, details)
    return list(found.values()), None


def _take_out(values: dict[str, Any], details: ErrorDetails) -> None:
    """Take what an error is about out of a config, and as little else as possible."""
    holders: list[tuple[dict[str, Any], Any]] = []
    place: Any = values
    for part in details["loc"]:
        if not isinstance(place, dict) or part not in place:
            break
        holders.append((place, part))
        place = place[part]
    last = details["loc"][-1] if details["loc"] else None
    if details["type"] == "missing" and last in _STAND_INS and isinstance(place, dict):
        place[last] = copy.deepcopy(_STAND_INS[last])
    elif not holders:
        # a rule about the whole config: groups of genes without gene sets
        models = values.get("models")
        if isinstance(models, dict):
            models.pop("oi_vae", None)
    elif details["type"] == "value_error" and isinstance(place, dict) and place:
        _without_contradiction(holders, place)
    else:
        holder, key = holders[-1]
        holder.pop(key, None)
        if holder is values.get("models") and not holder:
            # that no model is left is no problem of its own
            holder.update(copy.deepcopy(_STAND_INS["models"]))


def _without_contradiction(holders: list[tuple[dict[str, Any], Any]], place: dict[str, Any]) -> None:
    """A section whose keys do not go together: keep what names files."""
    holder, key = holders[-1]
    names = [name for _, name in holders]
    if names == ["atlases"]:
        holder[key] = _with_good_names(place)
    elif names[0] == "atlases":
        place["path"] = _UNKNOWN
    elif place.keys() - {"gene_sets", "regulators"}:
        holder[key] = {name: place[name] for name in ("gene_sets", "regulators") if name in place}
    else:
        del holder[key]


def _with_good_names(atlases: dict[str, Any]) -> dict[str, Any]:
    """Atlases under the names that they have, as far as these can be names."""
    good: dict[str, Any] = {}
    for name, atlas in atlases.items():
        new = re.sub(r"[^A-Za-z0-9_-]", "_", str(name)) or "_"
        while new in RESERVED_NAMES or new in good or (new != name and new in atlases):
            new += "_"
        good[new] = atlas
    return good


# ---- the files


def file_problems(config: Config, locate: Locate, look: AtlasCheck) -> list[InputError]:
    """What is wrong with the files that a config names; small ones are read."""
    found: list[InputError] = []
    seen: set[str] = set()
    if Path(config.results).exists() and not Path(config.results).is_dir():
        said = f"{config.results} is a file, not a folder"
        found.append(InputError("config key results", said, "Name a folder, or move the file away"))
    for name, atlas in config.atlases.items():
        if is_known(atlas.path) and not atlas.is_address:
            with noted(found):
                path = _atlas_file(name, atlas, locate)
                found += [] if path is None else look(name, atlas, config, path)
        for file in own_files(atlas.gene_sets):
            if file not in seen:
                seen.add(file)
                with noted(found):
                    _require_file(file, f"atlases.{name}.gene_sets", locate)
                    read_sets(locate(file), atlas.regulon_confidence)
    found += _group_problems(config, locate)
    for key in ("data", "movielens"):
        place = getattr(config.reproduction, key)
        if place is not None and not Path(place).exists():
            remedy = "Mend the path, or leave the key out: what needs it is skipped then"
            found.append(InputError(f"config key reproduction.{key}", f"there is no {place}", remedy))
    with noted(found):
        _check_tree(config, locate)
    with noted(found):
        _check_regulators(config.tbr, locate)
    return found


def _atlas_file(name: str, atlas: AtlasSettings, locate: Locate) -> Path | None:
    """Where an atlas is; None for one of a package that is not installed here, as beside Snakemake alone."""
    if atlas.is_file:
        _require_file(atlas.path, f"atlases.{name}.path", locate)
        return Path(locate(atlas.path))
    try:
        return builtin_path(atlas.path.removeprefix("builtin:"))
    except InputError:
        return None


def header_problems(name: str, atlas: AtlasSettings, config: Config, path: Path) -> list[InputError]:
    """What the header of an atlas's file tells: columns that are not there, more factors than genes."""
    found = phenotype_problems(atlas, config, path)
    known = obs_columns(path)
    for key in OBS_KEYS if known else ():
        column = getattr(atlas, key, None)
        if column is not None and is_known(column) and column not in known:
            said = f"{atlas.path} has no obs column {column!r}{nearest(column, known)}"
            found.append(
                InputError(
                    f"config key atlases.{name}.{key}",
                    f"{said}; there are {listed(known, limit=40)}",
                    "Name one of these",
                )
            )
    for model, chosen in config.models.listed().items():
        own = getattr(chosen, "batch", None)
        if own is not None:
            with noted(found):
                require_obs_column(path, own, f"models.{model}.batch")
    size = atlas_size(path)
    return found + ([] if size is None else factor_problems(config, atlas.path, *size))


def phenotype_problems(atlas: AtlasSettings, config: Config, path: Path) -> list[InputError]:
    """Columns of a measured phenotype that an atlas's file has not."""
    found: list[InputError] = []
    if config.tbr is None or config.tbr.phenotype.kind != "measured":
        return found
    for key in ("column", "donor"):
        column = getattr(config.tbr.phenotype, key)
        if column is not None:
            with noted(found):
                require_obs_column(path, column, f"tbr.phenotype.{key}")
    return found


def factor_problems(config: Config, shown: str, n_cells: int, n_genes: int) -> list[InputError]:
    """Numbers of factors for which an atlas of this size has no room."""
    asked = config.preprocess.n_genes
    modelled = n_genes if config.preprocess.gene_selection == "all" else min(asked, n_genes)
    limits = {
        f"{n_cells} cells in {shown}": n_cells,
        f"{modelled} genes to model in {shown}": modelled,
    }
    what, most = min(limits.items(), key=lambda limit: limit[1])
    return [
        InputError(
            f"config key models.{model}.n_factors",
            f"{k} factors are asked for, but there are {what}",
            f"Set n_factors between 1 and {most}",
        )
        for model, chosen in config.models.listed().items()
        for k in chosen.n_factors
        if k > most
    ]


def regulator_rows(tbr: TBRConfig | None) -> dict[str, Any]:
    """Which rows of the table of regulators count, as arguments; none where there is no table."""
    if tbr is None or tbr.regulators is None:
        return {}
    return {"sources": tbr.regulator_sources, "confidence": tbr.regulator_confidence}


def own_files(gene_sets: Sequence[str]) -> list[str]:
    """Those of a key ``gene_sets`` that are files, not libraries to be fetched."""
    return [file for file in gene_sets if library_name(file) is None]


def own_gmt_files(atlas: AtlasSettings, locate: Locate) -> list[str]:
    """The GMT files among an atlas's gene sets; regulons overlap too much for groups of genes."""
    return [file for file in own_files(atlas.gene_sets) if not holds_regulons(locate(file))]


def _group_problems(config: Config, locate: Locate) -> list[InputError]:
    """What is wrong with the gene sets that oi_vae makes its groups of genes of."""
    found: list[InputError] = []
    groups = config.models.listed().get("oi_vae")
    own = getattr(groups, "gene_sets", None)
    for file in [own] if isinstance(own, str) else own if isinstance(own, tuple) else ():
        with noted(found):
            _require_file(file, "models.oi_vae.gene_sets", locate)
            read_gmt(locate(file))
    for name, atlas in config.atlases.items() if groups is not None and own is None else ():
        if all(Path(locate(file)).is_file() for file in own_files(atlas.gene_sets)) and not own_gmt_files(
            atlas, locate
        ):
            found.append(
                InputError(
                    f"config key atlases.{name}.gene_sets",
                    "holds no GMT file, which models.oi_vae makes its groups of genes from",
                    "Give one there or in models.oi_vae.gene_sets",
                )
            )
    return found


def _check_tree(config: Config, locate: Locate) -> None:
    file = config.environments.tree.file
    if file is not None:
        _require_file(file, "environments.tree.file", locate)
        # here and below, because they bring pandas along
        from latentree.tree import Tree

        Tree.from_file(locate(file))


def _check_regulators(tbr: TBRConfig | None, locate: Locate) -> None:
    if tbr is not None and tbr.regulators is not None:
        _require_file(tbr.regulators, "tbr.regulators", locate)
        from latentree.tbr_regulators import Regulators

        Regulators.read(locate(tbr.regulators), **regulator_rows(tbr))


def _require_file(file: str, key: str, locate: Locate) -> None:
    if not Path(locate(file)).is_file():
        raise InputError(
            f"config key {key}",
            f"{file} is a folder, not a file" if Path(locate(file)).is_dir() else f"no such file: {file}",
            "Mend the path; it is relative to the working directory",
        )


def beside(root: Path) -> Locate:
    """Files as named, or else below ``root``: the demo's resources are found from any folder."""
    return partial(_located, root)


def _located(root: Path, file: str) -> str:
    return str(root / file) if not Path(file).exists() and (root / file).exists() else file
