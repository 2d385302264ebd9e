"""Messages about arguments that a command refuses: one or two lines with the nearest right name."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from fastcell.errors import did_you_mean

_TYPE_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "list": "a list such as [1, 2]",
    "NoneType": "null",
}


def unknown_words(words: Sequence[str], known: Collection[str]) -> str:
    """Return the message for arguments that no option or positional takes.

    Args:
        words: the arguments left over, in their order.
        known: option names of the command.
    """
    options = [word.partition("=")[0] for word in words if re.match("--?[A-Za-z]", word)]
    if not options:
        return f"unexpected argument {words[0]!r}."
    name = options[0]
    last = _last_part(name)
    of_this_end = [option for option in known if _last_part(option) == last]
    hint = f"Did you mean {of_this_end[0]}?" if of_this_end else did_you_mean(name, known)
    return f"unknown option {name}." + (f" {hint}" if hint else "")


def _last_part(option: str) -> str:
    return option.lstrip("-").replace("-", "_").rpartition(".")[2]


def outside_choices(name: str, choices: Iterable[str], got: str) -> str:
    """Return the message for a value of `name` that is none of its choices."""
    names = list(choices)
    hint = did_you_mean(got, names)
    return f"{name} must be one of {', '.join(names)}, got {got!r}." + (f" {hint}" if hint else "")


def missing(names: Sequence[str], usage: str) -> str:
    """Return the message for positionals or options that were not given.

    Args:
        names: of the arguments, as the help spells them.
        usage: how the command is written.
    """
    what = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{what} must be given. Write: {usage}"


def of_argparse(message: str, usage: str) -> str:
    """Return what argparse refuses in the words of this program.

    Args:
        message: of `argparse.ArgumentParser.error`.
        usage: how the command is written.
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
    if choice := re.fullmatch(r"invalid choice: '?(.*?)'? \(choose from (.*)\)", what):
        return outside_choices(name, [word.strip(" '") for word in choice[2].split(",")], choice[1])
    if typed := re.fullmatch(r"invalid (\w+) value: (.*)", what):
        return f"{name} must be {_TYPE_NAMES.get(typed[1], typed[1])}, got {typed[2]}."
    if expected := re.fullmatch(r"expected (.*) arguments?", what):
        count = {"one": "a value", "at least one": "one value or more"}.get(expected[1], f"{expected[1]} values")
        return f"{name} needs {count}."
    return f"{name} {what}" + ("" if what.endswith(".") else ".")


def of_jsonargparse(message: str, usage: str, choices: Mapping[str, Sequence[str]], kinds: Mapping[str, str]) -> str:
    """Return what jsonargparse refuses in the words of this program.

    Args:
        message: of `jsonargparse.ArgumentParser.error`.
        usage: how the command is written.
        choices: by dotted name, of the settings with a fixed set of values.
        kinds: by dotted name, what a value must be, in words.
    """
    text = " ".join(message.split())
    if found := re.fullmatch(r'Parser key "(.+?)": File does not exist: (.*)', text):
        return f"--{found[1]} must be a file that is there, got {found[2]}."
    if found := re.match(r'Parser key "(.+?)": (.*)', text):
        name = found[1]
        given = re.search(r"(?:Got value|Given value): (.*)$", text)
        if given and name in choices:
            return outside_choices(f"--{name}", choices[name], given[1])
        if given:
            return f"--{name} must be {kinds.get(name, 'of another kind')}, got {given[1]!r}."
        return f"--{name}: {found[2]}"
    if found := re.fullmatch(r"Group '(.+?)' does not accept option '(.+?)'", text):
        return f"unknown setting {found[1]}.{found[2]}."
    return of_argparse(message, usage)


def kind_of(hint: str) -> str:
    """Return in words what a type asks for.

    Args:
        hint: names of types with ``|`` between, e.g. ``int | NoneType``.
    """
    return " or ".join(_TYPE_NAMES.get(part.strip(), part.strip()) for part in hint.split("|"))
