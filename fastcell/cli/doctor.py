"""The command ``fastcell doctor``: the environment, and the way out where a part is not usable."""

from __future__ import annotations

import argparse
import json

from fastcell.system.environment_report import PROBES, probe_here, render, report


def main(argv: list[str]) -> int:
    """Print the report; always returns 0.

    Args:
        argv: arguments of the command.
    """
    arguments = _parser().parse_args(argv)
    if arguments.probe:  # as `fastcell.system.environment_report.probe_parts` calls it, in a process of its own
        probe_here(arguments.probe)
        return 0
    result = report()
    print(json.dumps(result, indent=2) if arguments.json else render(result))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastcell doctor",
        description="Show the machine, the versions, which parts of the engine are usable, and the way out where not.",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--probe", nargs="+", choices=list(PROBES), metavar="PART", help=argparse.SUPPRESS)
    return parser
