"""The command line: ``latentree`` or ``python -m latentree``.

Exit codes: 0 all well, 2 bad input (one message, no traceback). Imports nothing heavy at the top.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from latentree.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except InputError as error:
        print(f"latentree: error: {error}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="latentree", description="Latent factors of single-cell atlases.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    record = commands.add_parser(
        "record",
        help="close the run records that a killed Snakemake left open",
        description="Assemble run.json from the job records of each run that was left open, as by SIGKILL.",
        epilog="example: python -m latentree record results",
    )
    record.add_argument("results", metavar="RESULTS", help="the results folder of a run")
    record.set_defaults(run=_record)
    schema = commands.add_parser("schema", help="print the JSON schema of the config")
    schema.add_argument("--page", action="store_true", help="print config/README.md instead")
    schema.set_defaults(run=_schema)
    return parser


def _record(parsed: argparse.Namespace) -> int:
    from latentree.provenance import assemble_open_runs

    assembled = assemble_open_runs(parsed.results)
    for run, state in assembled.items():
        print(f"{run}: closed as {state}")
    if not assembled:
        print("no run was left open")
    return 0


def _schema(parsed: argparse.Namespace) -> int:
    from latentree.config import json_schema
    from latentree.config_keys import config_page

    print(config_page() if parsed.page else json.dumps(json_schema(), indent=2) + "\n", end="")
    return 0
