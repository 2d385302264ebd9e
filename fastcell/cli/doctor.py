"""The command ``fastcell doctor``: the environment, and the way out where a part is not usable."""

from __future__ import annotations

import argparse
import json

from fastcell.bench.engine_parts import PROBES, probe_here, probe_parts
from fastcell.system.environment_report import describe_environment, format_environment


def main(argv: list[str]) -> int:
    """Print the describe_environment; always returns 0.

    Args:
        argv: arguments of the command.
    """
    arguments = _parser().parse_args(argv)
    if arguments.probe:  # as `fastcell.bench.engine_parts.probe_parts` calls it, in a process of its own
        probe_here(arguments.probe)
        return 0
    result = {**describe_environment(), "parts": probe_parts(list(PROBES))}
    print(json.dumps(result, indent=2) if arguments.json else format_environment(result))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastcell doctor",
        description="Show the machine, the versions, which parts of the engine are usable, and the way out where not.",
    )
    parser.add_argument("--json", action="store_true", help="print the describe_environment as JSON")
    parser.add_argument("--probe", nargs="+", choices=list(PROBES), metavar="PART", help=argparse.SUPPRESS)
    return parser
