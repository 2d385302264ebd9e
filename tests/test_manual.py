"""README.md, CONTRIBUTING.md and docs/: commands take the arguments that pages show, links lead somewhere."""

import contextlib
import io
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from fixtures.process_state import same_process_state

from fastcell.cli import main as cli
from fastcell.dataset.schema import QUALITY_SCHEMA, QUARANTINE_SCHEMA, SCHEMA, SPLIT_SCHEMA
from fastcell.runs.run_folder import RUN_FILES

REPO_DIR = Path(__file__).resolve().parent.parent
DOCS_DIR = REPO_DIR / "docs"
FRONT = sorted(REPO_DIR.glob("*.md"))
BESIDE_CODE = [
    REPO_DIR / name / "README.md" for name in ("benchmarks", "examples", "fastcell", "kernels", "benchmarks/peers")
]
PAGES = [*FRONT, *BESIDE_CODE, *sorted(page for page in DOCS_DIR.rglob("*.md") if "_commands" not in page.parts)]
LIGHTNING = {"fit", "validate", "test", "predict"}
TAKE_SETTINGS = {"compare", "distill"}  # options of fit, whose names have a dot
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
NUM_README_BYTES = 7000


def text_of(page):
    return page.read_text(encoding="utf-8")


def name_of(page):
    return str(page.relative_to(REPO_DIR))


def commands(page):
    """Yield every call of fastcell in the blocks of a page as its arguments, the command's name first."""
    for language, block in FENCE.findall(text_of(page)):
        if language == "python":
            continue
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"[^#]*(\./run|fastcell) [a-z]", line) is None:
                continue
            words = shlex.split(line, comments=True)
            for program in ("./run", "fastcell"):
                if program in words:
                    yield words[words.index(program) + 1 :]


@cache
def help_text(name):
    text = io.StringIO()
    with same_process_state(), contextlib.redirect_stdout(text):
        try:
            status = cli.main([name, "--help_all" if name in LIGHTNING else "--help"])
        except SystemExit as end:
            status = end.code
    assert not status
    return text.getvalue()


def unknown_flags(name, arguments):
    flags = [word.split("=")[0] for word in arguments if word.startswith("--")]
    flags = [re.sub(r"^(--trainer\.(?:logger|callbacks)|--model\.(?:network|loss))\..*", r"\1", flag) for flag in flags]
    known = (help_text(name) + (help_text("fit") if name in TAKE_SETTINGS else "")).replace("_", "-")
    return [flag for flag in flags if not re.search(rf"{flag.replace('_', '-')}\b", known)]


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page))], ids=name_of)
def test_commands_and_options_of_the_page_exist(page):
    for words in commands(page):
        if words[0] == "docs" or (words[0] == "test" and {"-m", "-k"} & set(words)):
            continue  # of the script ./run
        assert words[0] in cli.COMMANDS, words
        assert unknown_flags(words[0], words[1:]) == [], words


def benchmark_lines(page):
    """Return every call of a program of benchmarks/ in the blocks of a page: the program, then its arguments."""
    found = []
    for _, block in FENCE.findall(text_of(page)):
        for line in block.replace("\\\n", " ").splitlines():
            call = re.search(r"(?:^|\bpython |do )(benchmarks/\w+(?:\.py)?)( .*|$)", line.split("; done")[0])
            if call is not None:
                found.append([call[1], *shlex.split(call[2], comments=True)])
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if benchmark_lines(page)], ids=name_of)
def test_benchmarks_take_the_options_of_the_page(page):
    for program, *words in benchmark_lines(page):
        path = REPO_DIR / program.replace("gpu_all", "gpu_all.py").replace(".py.py", ".py")
        assert path.is_file(), program
        source = path.read_text(encoding="utf-8")
        passed_on = help_text("compare") + help_text("fit") if path.name == "compare.py" else ""
        for flag in (word.split("=")[0] for word in words if word.startswith("--")):
            assert f'"{flag}"' in source or re.search(rf"{flag.replace('_', '-')}\b", passed_on), (program, flag)


def test_many_commands_are_shown():
    assert sum(len(list(commands(page))) for page in PAGES) > 60


def test_every_command_and_preset_is_described():
    table = [
        line for line in text_of(DOCS_DIR / "reference" / "commands.md").splitlines() if line.startswith("| `fast")
    ]
    for name in cli.COMMANDS:
        assert any(re.search(rf"`fastcell {name}\b", line) for line in table), name
    presets = text_of(DOCS_DIR / "reference" / "presets.md")
    for path in (REPO_DIR / "fastcell" / "presets").glob("*.yaml"):
        assert f"| `{path.stem}` |" in presets


def test_files_and_columns_are_those_of_the_code():
    page = text_of(DOCS_DIR / "reference" / "files.md")
    columns = [*SCHEMA.names, *QUARANTINE_SCHEMA.names, *QUALITY_SCHEMA.names, *SPLIT_SCHEMA.names]
    assert [name for name in columns if f"`{name}`" not in page] == []
    rows = {", ".join(f"`{part}`" for part in name.split(", ")): text for name, text in RUN_FILES.items()}
    assert [name for name, text in rows.items() if f"| {name} | {text} |" not in page] == []


def test_the_test_command_is_the_ones_ci_calls():
    assert "\n./run test" in text_of(REPO_DIR / "README.md")
    assert "\n./run test\n" in (REPO_DIR / ".ci" / "run").read_text()


def anchors(page):
    """Return the anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in LINK.findall(FENCE.sub("", text_of(page))):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_named_exist(page):
    named = re.findall(r"`((?:benchmarks|docs|examples|kernels|fastcell|tests)/[\w./-]*\w)`", text_of(page))
    absent = [name for name in named if not (REPO_DIR / name).exists() and not re.search(r"/(NAME|ROOM)\b|_NAME", name)]
    assert page.name == "CHANGELOG.md" or absent == []


def test_the_index_lists_every_page():
    index = DOCS_DIR / "index.md"
    listed = {(DOCS_DIR / target.partition("#")[0]).resolve() for target in LINK.findall(text_of(index))}
    assert [name_of(page) for page in PAGES if page not in listed and page != index] == []


def test_the_front_page_is_short():
    assert (REPO_DIR / "README.md").stat().st_size <= NUM_README_BYTES


def paragraphs(page):
    """Return the paragraphs of prose of a page that are longer than a sentence or two, without the origin of tables."""
    blocks = FENCE.sub("", text_of(page)).split("\n\n")
    return {
        " ".join(block.split())
        for block in blocks
        if len(block) > 200 and "|" not in block and "[result](" not in block
    }


def test_no_page_repeats_another():
    seen = {}
    for page in PAGES:
        for paragraph in paragraphs(page):
            assert paragraph not in seen, f"{name_of(page)} repeats {seen.get(paragraph)}: {paragraph[:80]}"
            seen[paragraph] = name_of(page)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_stand_in_blocks_of_the_shell(page):
    for language, block in FENCE.findall(text_of(page)):
        first = re.match(r"(\./run|fastcell) [a-z]", block)
        assert first is None or language in ("sh", "bash", "text"), block
        assert language != "sh" or re.search(r"^(import |fastcell\.|\w+ = )", block, re.MULTILINE) is None, block
