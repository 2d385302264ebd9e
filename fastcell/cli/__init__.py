"""The command line: one module for each command, which holds the command as a typed function.

To add an option, add a keyword-only parameter with type and default to the function, and one line to its ``Args:``:
parser, help, messages and completion follow from these. A fixed set of values is a ``Literal``, a switch a ``bool``, a
pair a ``tuple[float, float]``, names separated by commas a ``list[Literal[...]]``; ``Annotated[..., Spelled(...)]``
sets a placeholder, ``-o``, or an old name. Options of several commands are a named tuple in `fastcell.cli.options`.
Then read the help, and write it to its golden file: ``FASTCELL_FREEZE=1 pytest tests/cli/test_help_page.py``.
"""
