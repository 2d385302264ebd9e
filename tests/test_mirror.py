"""tests/ mirrors the package: fastcell/ROOM/x.py is tested by tests/ROOM/test_x.py."""

from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PACKAGE = TESTS.parent / "fastcell"
MOST_UNTESTED = 15
NO_ROOMS = {"benchmarks", "fixtures", "frozen", "fuzz", "gpu", "kernels"}
"""Folders of tests/ that are of no room: of other folders of the checkout, of helpers, of tests with needs of their
own."""
NOT_TESTED_ALONE = {"sklearn.py"}  # an alias, for old pickles
ACROSS_MODULES = {
    "test_architecture.py": "floors, names and sizes of the package",
    "test_mirror.py": "this file: the layout of tests/",
    "test_packaging.py": "wheel and sources: what an installation holds, and that it works without the checkout",
    "test_manual.py": "the commands and links of README.md, CONTRIBUTING.md and docs/",
    "test_manual_commands.py": "every command line of README.md and docs/, page by page",
    "test_site.py": "the manual as a site: pages made from the code, search, width",
    "test_snippets.py": "the Python of README.md, docs/ and docstrings",
    "test_tutorial.py": "every command of docs/tutorial.md, on real cells",
    "test_typing.py": "the types of the public names, as mypy and Pyright see them",
    "test_examples.py": "the programs of examples/",
    "test_run_script.py": "the script ./run of the checkout",
    "cli/test_kills.py": "commands that are killed at any moment, and run again",
    "cli/test_large_sets.py": "sets of many classes, many groups or very long names, by all commands",
    "cli/test_missing_files.py": "run folders in which a file is missing",
    "cli/test_own_parts.py": "networks, losses, metrics and augmentations of the user, by all commands",
    "cli/test_stranger_text.py": "text of other people in what all commands print",
    "dataset/test_picture_matrix.py": "pictures of every kind, by every decoder of the package",
    "dataset/test_path_safety.py": "what readers and writers of a data set may touch on disk",
    "cli/test_odd_values.py": "odd values of every option, by all commands",
    "loading/test_stores_in_training.py": "stream and bank under the data module, with every transform and decoder",
    "loading/test_two_processes.py": "training in two processes",
    "loading/test_plain_loops.py": "loops and modules of the user, which know no trainer or no weights",
    "packing/test_resume.py": "pack and index of an interrupted run",
    "predictions/test_interrupted.py": "predictions that are killed and run again",
    "remote/test_data_at_addresses.py": "commands and training on data sets of object stores and web servers",
    "review/test_large_page.py": "the page in Chromium at 1,000,000 cells, and the way from labels to a training",
    "review/test_page.py": "the page of fastcell review in Chromium",
    "training/test_corrupt_cells.py": "training, testing and predicting on damaged data",
    "training/test_divergence.py": "training that diverges, and what other commands do with its network",
    "training/test_finished_runs.py": "runs that are finished or have no step to take",
    "training/test_killed_runs.py": "processes of training that get signals at any moment",
    "training/test_resumed_code.py": "own networks and losses of a run that goes on",
    "training/test_resumed_settings.py": "what a run that goes on must share with its start",
    "training/test_scarce_resources.py": "training with little memory, few files and a full disk",
}
"""Tests of what no module does alone, with the reason."""


def modules():
    """Modules of the package, relative to it, without __init__ and __main__."""
    every = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")}
    return {path for path in every if path.name not in ("__init__.py", "__main__.py")}


def test_file_of(module):
    """Where a module is tested, relative to tests/."""
    return module.with_name(f"test_{module.name}")


test_file_of.__test__ = False


def test_files():
    """Test files of the rooms, relative to tests/."""
    every = sorted(path.relative_to(TESTS) for path in TESTS.rglob("test_*.py"))
    return [path for path in every if path.parts[0] not in NO_ROOMS]


test_files.__test__ = False


def test_few_modules_have_no_test_file_of_their_name():
    untested = sorted(
        str(module)
        for module in modules()
        if str(module) not in NOT_TESTED_ALONE and not (TESTS / test_file_of(module)).exists()
    )
    assert len(untested) <= MOST_UNTESTED, "\n".join(untested)


def test_folders_of_tests_are_rooms():
    folders = {path.parent for path in test_files()}
    known = {path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*")}
    assert folders - known - {Path()} == set()


def test_test_files_name_modules():
    known = {test_file_of(module) for module in modules()} | {Path(name) for name in ACROSS_MODULES}
    assert [str(path) for path in test_files() if path not in known] == []


@pytest.mark.parametrize("name", ACROSS_MODULES)
def test_exceptions_are_there_and_needed(name):
    assert (TESTS / name).exists()
    assert Path(name) not in {test_file_of(module) for module in modules()}
