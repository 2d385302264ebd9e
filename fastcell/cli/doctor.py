"""The command ``fastcell doctor``: the environment, and the way out where a part is not usable."""

from __future__ import annotations

import argparse
import json

from fastcell.cli.next_steps import show_next
from fastcell.cli.parser import CommandParser

PROBES = (
    "torch",
    "torch on CUDA",
    "DALI on the CPU",
    "DALI on the GPU",
    "kernel sources",
    "CuPy kernels",
    "NVRTC wheel",
    "cuML",
    "timm",
    "onnxruntime",
    "scikit-learn-intelex",
)
"""Names of the parts that `fastcell.bench.engine_parts` probes."""


def main(argv: list[str]) -> int:
    """Print the environment; always returns 0.

    Args:
        argv: arguments of the command.
    """
    arguments = _parser().parse_args(argv)
    from fastcell.bench.engine_parts import probe_here, probe_parts
    from fastcell.system.environment_report import describe_environment, format_environment

    if arguments.probe:  # as `fastcell.bench.engine_parts.probe_parts` calls it, in a process of its own
        probe_here(arguments.probe)
        return 0
    result = {**describe_environment(), "parts": probe_parts(list(PROBES))}
    if arguments.json:
        print(json.dumps(result, indent=2))
        return 0
    print(format_environment(result))
    show_next(("bench", "--quick"))
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "fastcell doctor",
        "",
        description="Show the machine, the versions, which parts of the engine are usable, and the way out where not.",
    )
    parser.add_argument("--json", action="store_true", help="print the environment as JSON")
    parser.add_argument("--probe", nargs="+", choices=PROBES, metavar="PART", help=argparse.SUPPRESS)
    return parser
