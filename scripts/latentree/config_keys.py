"""Every key of the config as a Markdown page: config/README.md is written from here and cannot go stale."""

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from latentree.config import Config
from latentree.settings import Settings, settings_inside

_HEAD = """# Every key of the config

One YAML file describes a run. `config/config.yaml` is the demo's; `latentree new ATLAS.h5ad` writes
one for an atlas of your own, `latentree check CONFIG` checks it, and
`snakemake --cores 2 --configfile CONFIG` runs it (your file then replaces the demo's). Single keys change by
`--config 'seeds=[0]'`. Paths are relative to the working directory. Unknown keys are errors. `NAME` stands
for a name that you choose.

This page is written by `make schema` from the settings classes in scripts/latentree.

| key | default | values | meaning |
|---|---|---|---|
"""


def config_page() -> str:
    """The page; one row per key, in the order of the classes."""
    return _HEAD + "".join(_rows(Config, ""))


def _rows(kind: type[Settings], prefix: str) -> Iterator[str]:
    for name, field in kind.model_fields.items():
        inner = settings_inside(field.annotation)
        key = prefix + name + (".NAME" if get_origin(field.annotation) is dict else "")
        meaning = field.description or (_first_line(inner) if inner else "")
        values = _values(field.annotation) if inner is None else "keys below"
        yield f"| `{key}` | {_default(field, inner)} | {values} | {_cell(meaning)} |\n"
        if inner is not None:
            yield from _rows(inner, f"{key}.")


def _default(field: FieldInfo, inner: type[Settings] | None) -> str:
    if field.default is PydanticUndefined:
        return "must be given"
    if inner is not None:
        return "left out" if field.default is None else "see below"
    return f"`{_yaml(field.default)}`"


def _yaml(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    return str(value)


def _values(annotation: Any) -> str:
    """The allowed values in words."""
    if annotation is type(None):
        return "null"
    names = {str: "text", int: "whole number", float: "number", bool: "true, false"}
    if annotation in names:
        return names[annotation]
    arguments = get_args(annotation)
    if get_origin(annotation) is list:
        return f"list of: {_values(arguments[0])}"
    if get_origin(annotation) is tuple and arguments[-1] is Ellipsis:
        return f"list of: {_values(arguments[0])}"
    if hasattr(annotation, "__metadata__"):
        return _values(arguments[0])
    if all(isinstance(argument, str) for argument in arguments):
        return ", ".join(f"`{argument}`" for argument in arguments)
    return " or ".join(_values(argument) for argument in arguments)


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
