"""Messages about arguments that a command refuses: one or two lines with the nearest right name."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from fastcell.errors import did_you_mean
from fastcell.system.optional_packages import install_hint

_TYPE_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "list": "a list such as [1, 2]",
    "NoneType": "null",
}
_WRITTEN = {"None": "null", "True": "true", "False": "false"}
"""Values in jsonargparse's messages -> values in the user's spelling."""
_IN_OTHER_PROGRAMS = {
    "bs": "batch_size",
    "ckpt": "ckpt_path",
    "epochs": "max_epochs",
    "gpus": "devices",
    "lr": "learning_rate",
    "num_workers": "threads",
    "optim": "optimizer",
    "output": "out",
    "seed": "seed_everything",
    "steps": "max_steps",
    "wd": "weight_decay",
    "workers": "threads",
}
"""Names of options in other programs -> last part of the option here."""
_RATHER = {"tensorboardX": "tensorboard"}
"""Package named last in a message of Lightning -> package to install."""


def unknown_words(words: Sequence[str], known: Collection[str], placed: Collection[str] = ()) -> str:
    """Return the message for unknown options and superfluous arguments.

    Args:
        words: the remaining arguments, in order.
        known: option names of the command.
        placed: positional arguments of the command, such as ``RUN``.
    """
    options = [word.partition("=")[0] for word in words if re.match("--?[A-Za-z]", word)]
    if not options:
        return f"unexpected argument {words[0]!r}."
    name = options[0]
    if name.lstrip("-").upper() in placed:
        return f"unknown option {name}. {name.lstrip('-').upper()} is given without an option name."
    last = _last_part(name)
    meant = {last, _IN_OTHER_PROGRAMS.get(last, last)}
    of_this_end = [option for option in known if _last_part(option) in meant]
    hint = f"Did you mean {of_this_end[0]}?" if of_this_end else did_you_mean(name, known)
    return f"unknown option {name}." + (f" {hint}" if hint else "")


def _last_part(option: str) -> str:
    return option.lstrip("-").replace("-", "_").rpartition(".")[2]


def outside_choices(name: str, choices: Iterable[str], got: str) -> str:
    """Return the message for a value of `name` that is not among its choices."""
    names = list(choices)
    hint = did_you_mean(got, names)
    return f"{name} must be one of {', '.join(names)}, got {got!r}." + (f" {hint}" if hint else "")


def missing(names: Sequence[str], usage: str) -> str:
    """Return the message for missing arguments or options.

    Args:
        names: names of the arguments, as spelled in the help.
        usage: usage line of the command.
    """
    what = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{what} must be given. Write: {usage}"


class Setting(NamedTuple):
    """Facts about an argument for error messages.

    Attributes:
        label: its name, e.g. ``--data.fit`` or ``SRC``.
        choices: values that it may have; empty if any value is allowed.
        kind: type in words, e.g. ``a whole number``.
    """

    label: str
    choices: Sequence[str] = ()
    kind: str = "of another kind"


def of_argparse(message: str, usage: str) -> str:
    """Return an error message of argparse in the wording of fastcell.

    Args:
        message: message of `argparse.ArgumentParser.error`; jsonargparse is based on argparse.
        usage: form of the command.
    """
    text = " ".join(message.split())
    if found := re.fullmatch(r"the following arguments are required: (.*)", text):
        return missing(found[1].split(", "), usage)
    if found := re.fullmatch(r"ambiguous option: (\S+) could match (.*)", text):
        return f"{found[1].partition('=')[0]} is ambiguous: it could be {found[2].replace(', ', ' or ')}."
    found = re.fullmatch(r"argument (\S+): (.*)", text)
    if not found:
        return text if text.endswith(".") else f"{text}."
    name, what = found[1].split("/")[-1], found[2]
    if re.fullmatch(r"expected one argument", what):
        return f"{name} needs a value."
    return f"{name} {what}" + ("" if what.endswith(".") else ".")


def of_jsonargparse(message: str, usage: str, settings: Mapping[str, Setting]) -> str:
    """Return an error message of jsonargparse in the wording of fastcell.

    Args:
        message: message of `jsonargparse.ArgumentParser.error`.
        usage: usage line of the command.
        settings: facts about the arguments, by dotted name.
    """
    text = " ".join(message.split())
    found = re.fullmatch(r'Parser key "(.+?)"(?: element \d+)?: (.*)', text)
    if found:
        setting = settings.get(found[1], Setting(f"--{found[1]}"))
        if file := re.fullmatch("File does not exist: (.*)", found[2]):
            return f"{setting.label} must be an existing file, got {file[1]}."
        if file := re.match("Unable to load config '(.*?)'", found[2]):
            return f"{setting.label} must be a YAML file of settings, got {file[1]!r}."
        problem = re.search(
            r"Problem with given class_path '(?:[\w.]+\.)?(\w+)': (.*?)(?: - | Given value|$)", found[2]
        )
        if problem:
            return _of_class(setting.label, problem[1], problem[2])
        given = re.search(r"Given value: ?(.*)$", found[2]) or re.search(r"Got value: ?(.*)$", found[2])
        if given is None:
            return f"{setting.label}: {found[2]}"
        got = _WRITTEN.get(given[1], given[1])
        if setting.choices:
            return outside_choices(setting.label, setting.choices, got)
        return f"{setting.label} must be {setting.kind}, got {got!r}."
    if found := re.fullmatch(r"Group '(.+?)' does not accept option '(.+?)'", text):
        return f"unknown setting {found[1]}.{found[2]}."
    return of_argparse(message, usage)


def _of_class(label: str, name: str, what: str) -> str:
    """Return the message for a class, e.g. a logger, whose arguments are refused."""
    if found := re.fullmatch(r"the following arguments are required: (\w+).*", what):
        return f"{label} {name} needs {found[1]}. Add {label}.{found[1]}=VALUE."
    if found := re.search(r"does not accept option '([\w.]+)'", what):
        return f"{label} {name} has no argument {found[1]}. Leave it out."
    return f"{label} {name} cannot be made: {what.rstrip('.')}."


def kind_of(hint: str) -> str:
    """Return the meaning of a type in words.

    Args:
        hint: names of types with ``|`` between, e.g. ``int | NoneType``.
    """
    return " or ".join(_TYPE_NAMES.get(part.strip(), part.strip()) for part in hint.split("|"))


def refused_part(message: str) -> str | None:
    """Return the message for a logger, callback or plugin that could not be made; None for other errors.

    Args:
        message: of jsonargparse or Lightning.
    """
    if found := re.search(r"Requirement '([^']+)' not met|pip install -U '([^']+)'", message):
        package = _RATHER.get(found[1] or found[2], found[1] or found[2])
        return f"the package {re.split('[<>=!~]', package)[0]} is not installed. {install_hint(package)}"
    if message.startswith("Does not validate against any of the Union subtypes"):
        given = re.search(r"class_path='(?:[\w.]+\.)?(\w+)'", message)
        reason = re.search(r"^ {4,}(\S.*)$|^  - (?!Expected a )(\S.*)$", message, re.MULTILINE)
        what = given[1] if given else "a setting"
        return f"{what} cannot be made: {(reason[1] or reason[2]) if reason else 'an argument is wrong'}"
    return None
