"""The command ``fastcell completion``: completion of commands, options and choices in bash and zsh."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from fastcell.cli.lightning_options import LIGHTNING_COMMANDS
from fastcell.cli.options import OutFile
from fastcell.cli.parser import entry
from fastcell.cli.signature import choices_of, parts_of, read_command
from fastcell.storage.places import check_output_file
from fastcell.system.messages import print_line


class Options(NamedTuple):
    """Options and choices that can be completed after a command.

    Attributes:
        choices: values of each option by its name; empty if any value is allowed.
        words: values of the positional arguments.
    """

    choices: dict[str, list[str]]
    words: list[str]


def completion(shell: Literal["bash", "zsh"], *, out: OutFile = None) -> int:
    """Print a script with which the shell completes commands, options and their choices. The script is static: no
    Python is started when TAB is pressed.

    installation:
      bash  new shells read the file of the first example if the package bash-completion is
            installed; else add this line to ~/.bashrc: source FILE
      zsh   add this line to ~/.zshrc, in front of compinit: fpath=(~/.zfunc $fpath)

    Write the file again after an update of fastcell.

    Args:
        shell: shell that will read the script
        out: file to write in an existing folder, instead of printing

    Examples:
        fastcell completion bash --out ~/.local/share/bash-completion/completions/fastcell
        fastcell completion zsh --out ~/.zfunc/_fastcell
    """
    from fastcell.cli.main import COMMANDS

    options = {name: options_of_command(name) for name in COMMANDS}
    script = bash_script(options) if shell == "bash" else zsh_script(options)
    if out is None:
        print_line(script.rstrip("\n"))
    else:
        from fastcell.storage.whole_files import write_text

        write_text(check_output_file("--out", out), script)
    return 0


def options_of_command(name: str) -> Options:
    """Return the options of a command with their choices. For Lightning's commands this loads torch."""
    if name in LIGHTNING_COMMANDS:
        from fastcell.cli.lightning_command import full_parser
        from fastcell.cli.trainer_names import trainer_choices

        typed, names = full_parser(name), trainer_choices()
        found = {
            option: names.get(action.dest) or _values_of(getattr(action, "_typehint", None))
            for action in typed._actions
            for option in action.option_strings
            if re.fullmatch(r"--[\w.]+", option) and not option.endswith(".help")
        }
        return Options({**found, "--help_all": []}, [])
    command = read_command(getattr(importlib.import_module(f"fastcell.cli.{name}"), name))
    shown = [argument for argument in command.arguments if argument.spelled.shown]
    pairs = [(option, argument.choices) for argument in shown for option in argument.shown_spellings]
    choices = {option: values for option, values in pairs if option.startswith("--")}
    return Options({"--help": [], **choices}, [value for place in command.positionals for value in place.choices])


def _values_of(hint: object) -> list[str]:
    return ["true", "false"] if [*parts_of(hint)] == [bool] else choices_of(hint)


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
        elif [[ -z $list && $previous != -* ]]; then
            case $command in
{_words(options, '                {}) list="{}" ;;')}
            esac
        fi
    fi
    COMPREPLY=( $(compgen -W "$list" -- "$current") )
}}
complete -o default -F _fastcell fastcell
"""


def zsh_script(options: Mapping[str, Options]) -> str:
    """Return the script for zsh, to be saved as ``_fastcell`` in a folder of ``$fpath``."""
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
    if [[ $previous != -* ]]; then
        case $command in
{_words(options, "            ({}) compadd -- {} ;;")}
        esac
    fi
    _files
}}
_fastcell "$@"
"""


def _cases(options: Mapping[str, Options], line: str) -> str:
    return "\n".join(
        line.format(name, option, " ".join(choices))
        for name, known in options.items()
        for option, choices in known.choices.items()
        if choices
    )


def _lists(options: Mapping[str, Options], line: str) -> str:
    return "\n".join(line.format(name, " ".join(known.choices)) for name, known in options.items())


def _words(options: Mapping[str, Options], line: str) -> str:
    return "\n".join(line.format(name, " ".join(known.words)) for name, known in options.items() if known.words)


main = entry(completion)
