"""The command line: ``latentree`` or ``python -m latentree``. Imports nothing heavy at the top."""

import argparse
import sys
from collections.abc import Callable, Sequence

from latentree.errors import InputError

_EXIT_CODES = """exit codes:
  0    all well
  1    verify only: files changed, are missing, or have no record
  2    bad input: one message on stderr says where, what and what to do; nothing is written
  130  interrupted
"""

# summary, description, examples
_HELP = {
    "new": (
        "write a commented config for an atlas",
        "Look at an .h5ad file, without loading its matrix, and write a config with a guess for every key:"
        " what was found, why it was taken, and what else there is. Overwrites nothing.",
        "latentree new data/atlas.h5ad",
        "latentree new data/atlas.h5ad --output my.yaml",
    ),
    "check": (
        "say all that is wrong with a config and its files, or what the run takes",
        "Check a config and every file that it names before a run, all problems at once, a line each (exit"
        " code 2). Where all is well: jobs, time, memory and disk of the run. Reads tables and a sample of"
        " the values only, so the size of an atlas hardly matters.",
        "latentree check config/atlas.yaml",
        "latentree check config/atlas.yaml --cores 16",
    ),
    "project": (
        "latents of other cells under a fit",
        "Put other cells into the factors of a fit. Genes are matched by name; counts are found and"
        " normalised as in the atlas stage.",
        "latentree project results/atlas/fits/sparse_vae/k10/seed0 new.h5ad projected.h5ad",
        "latentree project FIT cut.h5ad out.h5ad --library-size total_counts",
    ),
    "verify": (
        "compare the files of a run with its records",
        "Hash every file again that a job's newest record names, and list what changed, what is missing, what"
        " has no record, and inputs that changed since. Exit code 1 where there is any.",
        "latentree verify results",
    ),
    "record": (
        "close the run records that a killed Snakemake left open",
        "Assemble run.json from the job records of each run that was left open, as by SIGKILL.",
        "latentree record results",
    ),
    "schema": (
        "print the JSON schema of the config",
        "Print the JSON schema of the config, for editors.",
        "latentree schema > schema.json",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    parser = _parser()
    given = sys.argv[1:] if arguments is None else list(arguments)
    if not given:
        parser.print_help()
        return 0
    parsed = parser.parse_args(given)
    try:
        return int(parsed.run(parsed))
    except InputError as error:
        print(f"latentree: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("latentree: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="latentree",
        description="Interpretable latent factors of single-cell atlases.",
        epilog="a first run:\n"
        "  latentree new data/atlas.h5ad\n"
        "  latentree check config/atlas.yaml\n"
        "  snakemake --cores 2 --configfile config/atlas.yaml\n\n" + _EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    for name, run, add_arguments in _COMMANDS:
        summary, description, *examples = _HELP[name]
        shown = "\n".join(f"  {example}" for example in examples)
        added = commands.add_parser(
            name,
            help=summary,
            description=description,
            epilog=f"examples:\n{shown}\n\n{_EXIT_CODES}",
            formatter_class=_Help,
        )
        add_arguments(added)
        added.set_defaults(run=run)
    return parser


class _Help(argparse.RawDescriptionHelpFormatter):
    """Wraps the description, and leaves examples and exit codes as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _new_arguments(new: argparse.ArgumentParser) -> None:
    new.add_argument("atlas", metavar="ATLAS.h5ad", help="the atlas")
    new.add_argument(
        "--output", metavar="CONFIG", help="the config (default: config/<name of the atlas>.yaml)"
    )


def _check_arguments(check: argparse.ArgumentParser) -> None:
    check.add_argument("config", metavar="CONFIG", help="the config, a YAML file")
    check.add_argument(
        "--cores", type=_positive, metavar="N", help="cores of the run (default: this machine's)"
    )


def _project_arguments(project: argparse.ArgumentParser) -> None:
    project.add_argument("fit", metavar="FIT", help="the folder of a fit: fits/<model>/k<k>/seed<seed>")
    project.add_argument("cells", metavar="NEW.h5ad", help="the cells: counts, or log1p of counts per 10,000")
    project.add_argument("output", metavar="OUT.h5ad", help="what to write: obsm X_<model>, varm, uns")
    project.add_argument(
        "--library-size", metavar="COLUMN", help="obs column of total counts, for a file cut to few genes"
    )
    project.add_argument("--threads", type=_positive, default=1, metavar="N", help="CPU threads (default: 1)")


def _results_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("results", metavar="RESULTS", help="the results folder of a run")


def _schema_arguments(schema: argparse.ArgumentParser) -> None:
    schema.add_argument("--page", action="store_true", help="print config/README.md instead")


def _new(parsed: argparse.Namespace) -> int:
    from latentree.commands.new import new

    return new(parsed.atlas, parsed.output)


def _check(parsed: argparse.Namespace) -> int:
    from latentree.commands.check import check

    return check(parsed.config, parsed.cores)


def _project(parsed: argparse.Namespace) -> int:
    from latentree.commands.project import project

    return project(parsed.fit, parsed.cells, parsed.output, parsed.library_size, parsed.threads)


def _verify(parsed: argparse.Namespace) -> int:
    from latentree.commands.verify import verify

    return verify(parsed.results)


def _record(parsed: argparse.Namespace) -> int:
    from latentree.provenance import assemble_open_runs

    assembled = assemble_open_runs(parsed.results)
    for run, state in assembled.items():
        print(f"{run}: closed as {state}")
    if not assembled:
        print("no run was left open")
    return 0


def _schema(parsed: argparse.Namespace) -> int:
    import json

    from latentree.config import json_schema
    from latentree.config_keys import config_page

    print(config_page() if parsed.page else json.dumps(json_schema(), indent=2) + "\n", end="")
    return 0


_COMMANDS: tuple[tuple[str, Callable[..., int], Callable[[argparse.ArgumentParser], None]], ...] = (
    ("new", _new, _new_arguments),
    ("check", _check, _check_arguments),
    ("project", _project, _project_arguments),
    ("verify", _verify, _results_argument),
    ("record", _record, _results_argument),
    ("schema", _schema, _schema_arguments),
)
