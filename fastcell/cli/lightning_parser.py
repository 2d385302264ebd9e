"""The parser behind ``fit``, ``validate``, ``test`` and ``predict``: DATA and RUN as arguments, short messages."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from pytorch_lightning.cli import LightningArgumentParser

from fastcell.cli.full_help import full_help
from fastcell.cli.short_help import USAGES
from fastcell.cli.signature import choices_of, folded
from fastcell.cli.slips import Setting, kind_of, missing, of_jsonargparse, unknown_words
from fastcell.errors import ArgumentError, did_you_mean
from fastcell.training.preflight import PRECISIONS

_TAKE_NO_VALUE = {"-h", "--help", "--print_config"}
_NUM_VALUES = {"--window": 2}  # of options that take several
_OPTION_OF = {"DATA": "--data.path", "RUN": "--ckpt_path"}
_OPTION = re.compile("--?[A-Za-z]")
_WITH_VALUE = re.compile("-[A-Za-z].")  # -oFILE
_POSITIONALS = {"fit": ("DATA",), "validate": ("RUN", "DATA"), "test": ("RUN", "DATA"), "predict": ("RUN", "DATA")}


def same_spelling(words: Sequence[str]) -> list[str]:
    """Return the arguments with option names in Lightning's spelling.

    ``-`` in names becomes ``_``. ``--data DATA``, the spelling of other commands, becomes ``--data.path DATA``, unless
    the value is a file: then it is a file of settings.
    """
    found = []
    for number, word in enumerate(words):
        name, sign, value = word.partition("=")
        name = folded(name) if re.match("--[A-Za-z]", name) else name
        given = value if sign else "".join(words[number + 1 : number + 2])
        if name == "--data" and not Path(given).is_file():
            name = "--data.path"
        found.append(name + sign + value)
    return found


def place_positionals(command: str, words: Sequence[str]) -> list[str]:
    """Return the arguments with DATA and RUN replaced by the corresponding options.

    Args:
        command: fit, validate, test or predict.
        words: arguments of the command.

    Raises:
        ArgumentError: there are too many positional arguments, or one is also given as an option.
    """
    options, found = [], []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not _OPTION.match(word):
            found.append(word)
            continue
        takes_next = "=" not in word and word not in _TAKE_NO_VALUE and not _WITH_VALUE.match(word)
        values: list[str] = []
        while takes_next and rest and not _OPTION.match(rest[0]) and len(values) < _NUM_VALUES.get(word, 1):
            values.append(rest.pop(0))
        options += [word, *values]
    names = [name for name in _POSITIONALS[command] if name == "DATA" or value_of(_OPTION_OF[name], options) is None]
    for name, value in zip(names, found, strict=False):
        if value_of(_OPTION_OF[name], options) is not None:
            raise ArgumentError(f"{name} must be given once, got {value!r} and {_OPTION_OF[name]}. Leave one out.")
        options.append(f"{_OPTION_OF[name]}={value}")
    if len(found) > len(names):
        raise ArgumentError(f"{unknown_words(found[len(names) :], ())} Write: {USAGES[command]}")
    return options


def value_of(name: str, words: Sequence[str]) -> str | None:
    """Return the last value of an option among unparsed arguments; None if the option is absent."""
    values = list(values_of((name,), words))
    return values[-1] if values else None


def values_of(names: tuple[str, ...], words: Sequence[str]) -> Iterator[str]:
    """Yield the values of an option with these names among unparsed arguments."""
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in names and equals:
            yield value
        elif name in names and number + 1 < len(words) and not _OPTION.match(words[number + 1]):
            yield words[number + 1]


class FastcellLightningParser(LightningArgumentParser):
    """Lightning's parser with error messages of one or two lines, and with help texts without markup."""

    _words: Sequence[str] = ()

    @property
    def command(self) -> str:
        """The name of the command, as in ``fastcell fit``."""
        return str(self.prog).split()[-1]

    def parse_args(self, args: Any = None, *more: Any, **named: Any) -> Any:
        """Parse like jsonargparse, after checking the files of settings, so that error messages can name the file."""
        self._words = list(args or ())
        for path in values_of(("-c", "--config"), self._words):
            self._check_settings(Path(path))
        return super().parse_args(args, *more, **named)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise an ArgumentError that states `message` in the wording of fastcell."""
        if not self.exit_on_error:
            super().error(message, ex)
        if isinstance(ex, ArgumentError):
            raise ex
        raise ArgumentError(self._describe(message))

    def format_help(self, *more: Any, **named: Any) -> str:
        """Return the full help."""
        return full_help(self.command, self)

    def _where_all_are(self) -> str:
        return f"'fastcell {self.command} --help' shows the options that people use, --help_all shows all."

    def _settings(self) -> dict[str, Any]:
        """Actions by dotted name."""
        return {action.dest: action for action in self._actions if not action.dest.endswith(".help")}

    def _describe(self, message: str) -> str:
        text = " ".join(message.split())
        known = [name for action in self._actions for name in action.option_strings if re.match("--[a-z._]+$", name)]
        if found := re.fullmatch("unrecognized arguments: (.*)", text):
            words = found[1].split(" ")
            return f"{unknown_words(words, known, _POSITIONALS[self.command])}\n{self._where_all_are()}"
        if found := re.fullmatch("the following arguments are required: (.*)", text):
            names = {"ckpt_path": "RUN", "out": "--out FILE"}
            return missing([names.get(name, name) for name in found[1].split(", ")], USAGES[self.command])
        hints = {name: getattr(action, "_typehint", None) for name, action in self._settings().items()}
        settings = {
            name: Setting(f"--{name}", choices_of(hint), kind_of(_names(hint)))
            for name, hint in hints.items()
            if hint is not None
        }
        settings["trainer.precision"] = Setting(
            "--trainer.precision", ("auto", *PRECISIONS) if self.command == "fit" else PRECISIONS
        )
        said = of_jsonargparse(message, USAGES[self.command], settings)
        place = re.match(r"--([\w.]+) must be", said)
        if place and not any(word.partition("=")[0] == f"--{place[1]}" for word in self._words):
            for path in values_of(("-c", "--config"), self._words):
                return f"{path}: {said.removeprefix('--')}"
        return said

    def _check_settings(self, path: Path) -> None:
        """Raise ArgumentError for a file that is not YAML or contains an unknown setting."""
        if not path.is_file():
            raise ArgumentError(f"--config must be an existing file, got {str(path)!r}. Check the path.")
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            mark = getattr(error, "problem_mark", None)
            where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
            what = getattr(error, "problem", None) or type(error).__name__
            raise ArgumentError(f"{path} is not valid YAML: {what}{where}. Correct the file.") from None
        if not isinstance(values, dict):
            raise ArgumentError(f"{path} must hold settings such as data: {{batch_size: 64}}, got {values!r:.40}.")
        known = self._settings()
        for name in _unknown_settings(values, known):
            hint = did_you_mean(name, known) or "'fastcell fit --help_all' shows all."
            raise ArgumentError(f"{path}: unknown setting {name}. {hint}")


def allow_auto_precision(parser: LightningArgumentParser) -> None:
    """Let ``--trainer.precision`` take ``auto`` beside the values that Lightning's trainer takes."""
    action = next(action for action in parser._actions if action.dest == "trainer.precision")
    action._typehint = typing.Union[typing.Literal["auto"], action._typehint]  # type: ignore[attr-defined]  # noqa: UP007


def _unknown_settings(values: dict[Any, Any], known: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        inside = any(other.startswith(f"{name}.") for other in known)
        if name not in known and not inside:
            yield name
        elif inside and isinstance(value, dict) and "class_path" not in value:
            yield from _unknown_settings(value, known, f"{name}.")


def _names(hint: Any) -> str:
    parts = typing.get_args(hint) if typing.get_origin(hint) not in (list, dict, typing.Literal, None) else (hint,)
    texts = (choices_of(part) or [getattr(part, "__name__", str(part))] for part in parts)
    return "|".join(name for names in texts for name in names)
