"""The command ``fastcell doctor``: the environment, and hints for parts that are not usable."""

from __future__ import annotations

import json as json_module
from typing import Annotated, Literal, get_args

from fastcell.cli.next_steps import show_next
from fastcell.cli.parser import entry
from fastcell.cli.signature import Spelled
from fastcell.system.messages import print_line

Part = Literal[
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
]
PROBES: tuple[str, ...] = get_args(Part)
"""Names of the parts that `fastcell.bench.engine_parts` probes."""


def doctor(*, json: bool = False, probe: Annotated[list[Part] | None, Spelled(shown=False)] = None) -> int:
    """Show the machine, the versions of packages, the usable parts of fastcell, and how to get the missing parts.

    Args:
        json: print the result as JSON
        probe: try these parts in this process, and print what `fastcell.bench.engine_parts.probe_parts` reads

    Examples:
        fastcell doctor
        fastcell doctor --json
    """
    from fastcell.bench.engine_parts import probe_here, probe_parts
    from fastcell.system.environment_report import describe_environment, format_environment

    if probe:
        probe_here(list(probe))
        return 0
    result = {**describe_environment(), "parts": probe_parts(list(PROBES))}
    if json:
        print_line(json_module.dumps(result, indent=2))
        return 0
    print_line(format_environment(result))
    show_next(("bench", "--quick"))
    return 0


main = entry(doctor)
