"""The manual as a site: pages made from the code; in a browser nothing overflows and the search finds words."""

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastcell
from fastcell.cli.main import COMMANDS

REPO_DIR = Path(__file__).resolve().parent.parent
DOCS_DIR = REPO_DIR / "docs"


@pytest.fixture
def made_pages(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS_DIR))
    return importlib.import_module("made_pages")


HELP = """usage: fastcell hum TUNE [options]

Hum a tune_a to
the end.

  TUNE                    what to hum [default: C|D]

options:
  -l, --loud X            how loud,
                          in dB [default: 60]
  --long-name-of-an-option
                          its text

A note on * and |.

examples:
  fastcell hum c --loud 3
"""


def test_a_help_becomes_a_page(made_pages):
    assert made_pages.command_page("hum", HELP) == (
        "# fastcell hum\n\nHum a tune_a to the end.\n\n```sh\nfastcell hum TUNE [options]\n```\n\n"
        "| | |\n|---|---|\n| `TUNE` | what to hum \\[default: C\\|D\\] |\n\n"
        "## Options\n\n| | |\n|---|---|\n| `-l, --loud X` | how loud, in dB \\[default: 60\\] |\n"
        "| `--long-name-of-an-option` | its text |\n\n"
        "A note on \\* and \\|.\n\n## Examples\n\n```sh\nfastcell hum c --loud 3\n```\n"
    )


def test_the_contents_follow_the_tables_of_the_index(made_pages):
    text = (
        "# T\n\n| to begin | |\n|---|---|\n| [A](a.md) | x |\n\n| more | |\n|---|---|\n| [B](b/c.md), [A](a.md#d) | |\n"
    )
    assert made_pages.contents(text) == (
        "\n```{toctree}\n:hidden:\n:caption: To begin\n\na.md\n```\n"
        "\n```{toctree}\n:hidden:\n:caption: More\n\nb/c.md\n```\n"
    )


def test_public_names_are_described(made_pages):
    text = made_pages.public_names()
    table = (DOCS_DIR / "reference" / "api.md").read_text(encoding="utf-8")
    for name in set(fastcell.__all__) - {"__version__"}:
        assert re.search(rf"^\.\. auto(class|function):: fastcell\.{name}$", text, re.MULTILINE)
        assert f"`{name}`" in table


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("sphinx", reason="Sphinx is not installed")
    folder = tmp_path_factory.mktemp("site")
    checkout = folder / "checkout"
    for name in ("docs", "fastcell", "kernels", "benchmarks", "examples"):
        shutil.copytree(REPO_DIR / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__", "_commands"))
    for path in REPO_DIR.iterdir():
        if path.is_file():
            shutil.copy(path, checkout)
    words = ["-q", "-W", "--keep-going", "-c", "docs", "-d", str(folder / "doctrees"), ".", str(folder / "site")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *words], cwd=checkout, capture_output=True, text=True, timeout=250
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "site"


@pytest.mark.slow
def test_the_site_is_whole_and_needs_no_network(site):
    for name in COMMANDS:
        text = (site / "docs" / "reference" / "_commands" / f"{name}.html").read_text(encoding="utf-8")
        assert f"fastcell {name}" in text
    text = (site / "docs" / "reference" / "_commands" / "fit.html").read_text(encoding="utf-8")
    assert "--data.augmentation.rotation_deg" in text
    assert "Raises" in (site / "docs" / "reference" / "api.html").read_text(encoding="utf-8")
    assert 'href="docs/index.html"' in (site / "index.html").read_text(encoding="utf-8")
    for page in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=\"(https?:[^\"]*)", page.read_text())
        assert loaded == [], page


@pytest.fixture(scope="module")
def browser(site):
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium")
    with api.sync_playwright() as started:
        found = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_no_page_is_wider_than_the_window(width, scheme, site, browser):
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    for path in sorted(site.glob("*/**/*.html")):
        page.goto(path.as_uri(), wait_until="domcontentloaded")
        width_of = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        whole, shown = page.evaluate(width_of)
        assert whole <= shown, path.relative_to(site)
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize("word", ["donor", "FCS", "resume"])
def test_the_search_finds(word, site, browser):
    page = browser.new_page()
    page.goto(f"{(site / 'search.html').as_uri()}?q={word}")
    page.wait_for_selector("ul.search li a", timeout=20_000)
    assert page.locator("ul.search li a").count() >= 3
    page.close()
