"""The command ``fastcell completion``: completion of commands, options and choices in bash and zsh."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Mapping
from pathlib import Path

from fastcell.cli.fit import LIGHTNING_COMMANDS
from fastcell.cli.parser import CommandParser

SHELLS = ("bash", "zsh")
Options = dict[str, list[str]]
"""Option names of a command with their choices, empty where a value is free."""


def main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments.

    Returns:
        0.
    """
    arguments = _parser().parse_args(argv)
    from fastcell.cli.main import COMMANDS

    options = {name: options_of_command(name) for name in COMMANDS}
    script = bash_script(options) if arguments.shell == "bash" else zsh_script(options)
    if arguments.out is None:
        print(script, end="", flush=True)
    else:
        from fastcell.storage.whole_files import write_text

        write_text(Path(arguments.out), script)
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "fastcell completion",
        "bash|zsh",
        "Print a script with which the shell completes commands, options and their choices. The script is static: it "
        "starts no Python when TAB is pressed.",
        "bash:  fastcell completion bash --out ~/.local/share/bash-completion/completions/fastcell\n"
        "zsh:   fastcell completion zsh --out ~/.zfunc/_fastcell   (a folder of $fpath)",
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash or zsh")
    parser.add_argument("-o", "--out", metavar="FILE", help="file to write; its folder must be there")
    return parser


def options_of_command(name: str) -> Options:
    """Return the options of a command with the choices of each. Those of Lightning's commands load torch."""
    if name in LIGHTNING_COMMANDS:
        from fastcell.cli.lightning_command import full_parser
        from fastcell.cli.lightning_parser import choices_of

        typed = full_parser(name)
        found = {
            option: choices_of(getattr(action, "_typehint", None))
            for action in typed._actions
            for option in action.option_strings
            if re.fullmatch(r"--[\w.]+", option) and not option.endswith(".help")
        }
        return {**found, "--help_all": []}
    parser: argparse.ArgumentParser = importlib.import_module(f"fastcell.cli.{name}")._parser()
    return {
        option: [str(choice) for choice in action.choices or ()]
        for action in parser._actions
        if action.help != argparse.SUPPRESS
        for option in action.option_strings
        if option.startswith("--")
    }


def bash_script(options: Mapping[str, Options]) -> str:
    """Return the script for bash."""
    return f"""# Completion of fastcell for bash, written by: fastcell completion bash
_fastcell() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}} list=
    if [[ $current == = ]]; then
        current=
    elif [[ $previous == = ]]; then
        previous=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    if (( COMP_CWORD == 1 )); then
        list="{" ".join(options)}"
    else
        case "$command $previous" in
{_cases(options, '            "{} {}") list="{}" ;;')}
        esac
        if [[ -z $list && $current == -* ]]; then
            case $command in
{_lists(options, '                {}) list="{}" ;;')}
            esac
        fi
    fi
    COMPREPLY=( $(compgen -W "$list" -- "$current") )
}}
complete -o default -F _fastcell fastcell
"""


def zsh_script(options: Mapping[str, Options]) -> str:
    """Return the script for zsh, to be put as ``_fastcell`` into a folder of ``$fpath``."""
    return f"""#compdef fastcell
# Completion of fastcell for zsh, written by: fastcell completion zsh
_fastcell() {{
    local command=${{words[2]}} previous=${{words[CURRENT-1]}} current=${{words[CURRENT]}}
    if (( CURRENT == 2 )); then
        compadd -- {" ".join(options)}
        return
    fi
    if [[ $current == --*=* ]]; then
        previous=${{current%%=*}}
        compset -P '*='
    fi
    case "$command $previous" in
{_cases(options, '        ("{} {}") compadd -- {}; return ;;')}
    esac
    if [[ $current == -* && $current != *=* ]]; then
        case $command in
{_lists(options, "            ({}) compadd -- {} ;;")}
        esac
        return
    fi
    _files
}}
_fastcell "$@"
"""


def _cases(options: Mapping[str, Options], line: str) -> str:
    return "\n".join(
        line.format(name, option, " ".join(choices))
        for name, known in options.items()
        for option, choices in known.items()
        if choices
    )


def _lists(options: Mapping[str, Options], line: str) -> str:
    return "\n".join(line.format(name, " ".join(known)) for name, known in options.items())
