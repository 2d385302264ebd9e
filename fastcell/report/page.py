"""Write one HTML page about a run and comparisons that opens from disk and needs no other file."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from fastcell import __version__
from fastcell.dataset.class_balance import resolve_balance
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.schema import SUBSET_NAMES
from fastcell.errors import ArgumentError, DataError, FastcellError, invalid
from fastcell.explain.explanation import EXPLANATION_PARTS, Explanation, describe_cells, draw_parts
from fastcell.inference.probabilities import Outputs, num_called_otherwise, part_outputs
from fastcell.ops.augmentation import Augmentation
from fastcell.plots.figure_files import FigureFiles
from fastcell.report import run_sections
from fastcell.report.cell_browser import browser_data, choose_cells
from fastcell.report.compare_sections import is_study, read_study, repeat_command, study_section
from fastcell.report.data_card import data_section, splits_section
from fastcell.report.data_summary import TrainingLook
from fastcell.report.page_elements import Section, percent
from fastcell.report.run_sections import ENVIRONMENT, EXPLAIN, METRICS, read_json
from fastcell.report.unlike_section import unlike_section
from fastcell.runs.open_run import FinishedRun, open_run
from fastcell.splits.obstacles import cautions, refuse_obstacles, split_obstacles
from fastcell.stats.scores import describe_unit
from fastcell.storage.places import check_output_file
from fastcell.storage.whole_files import write_text
from fastcell.system.messages import Say, say_nothing
from fastcell.system.text import printable, printable_lines
from fastcell.training.recipe import Recipe

NUM_BROWSER_CELLS = 600
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class PageOptions:
    """Options of a page.

    Attributes:
        data_path: Path of the data set; None for the data set of the run.
        num_cells: Maximum number of cells in the browser; errors come first.
        bench: File written by ``fastcell bench --out``; None to leave out the timed parts.
        explain: Draw network figures that are missing or out of date.
        seed: Random seed of the choice of cells.
        allow_absent: Write the page even if the scores cannot be meaningful, with a caution above them.
        say: Callable that receives each message for the user.
        trust: Packages whose code a run with a user-defined network may import.
    """

    data_path: str | None = None
    num_cells: int = NUM_BROWSER_CELLS
    bench: Path | None = None
    explain: bool = True
    seed: int = 0
    allow_absent: bool = False
    say: Say = say_nothing
    trust: Sequence[str] = ()


@dataclass
class Page:
    """Content of a page.

    Attributes:
        title: Title of the page.
        lead: The main result, in one or two sentences.
        facts: Name and value of the main facts, shown first.
        sections: Sections in their order on the page.
        browser: Data of the cell browser, see `fastcell.report.cell_browser`; None for no browser.
        browser_text: Description of the cells in the browser.
        browser_command: Command that shows these cells in the page of `fastcell review`.
        confusion: (K, K) counts of the browser's subset, rows = true class; None if there is no browser.
        place_of_studies: Index in `sections` before which comparisons are inserted.
        synthetic: Whether the cells are simulated.
        cautions: Limitations of the scores, shown above them.
    """

    title: str
    lead: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    browser: dict[str, object] | None = None
    browser_text: str = ""
    browser_command: str = ""
    confusion: list[list[int]] | None = None
    place_of_studies: int = 0
    synthetic: bool = False
    cautions: list[str] = field(default_factory=list)


def write_page(folders: list[Path], out: Path | None = None, options: PageOptions | None = None) -> Path:
    """Write the page of a run, of comparisons, or of both.

    Args:
        folders: At most one run folder of ``fastcell fit``, and any number of folders of ``fastcell compare``.
        out: Path of the page; None for ``report.html`` in the first folder.
        options: Options of the page; None for the defaults.

    Returns:
        Path of the page.

    Raises:
        ArgumentError: There are two runs, the page cannot be written, the run has no labelled cells, or its scores
            cannot be meaningful (see `fastcell.splits.obstacles`) and `options.allow_absent` is not set.
        DataError: A run, a comparison or a data set cannot be read.
    """
    options = options or PageOptions()
    studies = [folder for folder in folders if is_study(folder)]
    runs = [folder for folder in folders if folder not in studies]
    if len(runs) > 1:
        rule = "one run of fastcell fit, and any number of folders of fastcell compare"
        raise invalid("PATH", rule, ", ".join(map(str, runs)), "Write a page for each run")
    out = folders[0] / "report.html" if out is None else out
    if folders[0].is_dir():  # else the message is about the run
        check_output_file("--out", out)
    page = (
        run_page(open_run(runs[0], options.data_path, options.trust), options) if runs else study_page(studies, options)
    )
    for number, folder in enumerate(studies, start=1):
        section, values = study_section(folder, number)
        if values.get("cautions") and not options.allow_absent:
            raise ArgumentError(
                f"{folder} must be a comparison whose scores can answer, got this: {' '.join(values['cautions'])} "
                "Compare on another split; --allow-absent writes the page in spite of it."
            )
        page.cautions += [line for line in values.get("cautions", []) if line not in page.cautions]
        page.sections.insert(page.place_of_studies + number - 1, section)
        page.sections[-1].code.append((f"{section.title}: command", repeat_command(values)))
        if "changes" not in values:
            page.sections[-1].paragraphs.append(
                f"{folder}/study.json is of a version that did not write the arguments that change the preset: what "
                "--model.*, --data.* and --trainer.* have set is under recipe there."
            )
    write_text(out, render_page(page))
    return out


def run_page(run: FinishedRun, options: PageOptions) -> Page:
    """Return the page of a run: scores, errors, data, splits, figures, speed, environment and commands to repeat it."""
    obstacles = split_obstacles(run.manifest, run.split_name, run.quality)
    if not options.allow_absent:
        refuse_obstacles(obstacles, f"split {run.split_name!r} of {run.manifest.place}, which {run.folder} is of,")
    outputs = {part: cells for part in ("valid", "test") if (cells := part_outputs(run, part)) is not None}
    if not outputs:
        cells = part_outputs(run, "train")
        if cells is None:
            rule = "a run whose data set has labelled cells in its split"
            raise invalid("PATH", rule, str(run.folder), "Give another data set with --data")
        outputs["train"] = cells
    part = list(outputs)[-1]
    cells = outputs[part]
    summary, figures = _explanation(run, part, options), run.folder / "explain"
    metrics = read_json(run.folder / "metrics.json", METRICS)
    machine = read_json(run.folder / "environment.json", ENVIRONMENT)
    scores, summaries = run_sections.scores_section(run, outputs)
    scores.pictures += run_sections.explanation_pictures(figures, summary, run_sections.SCORE_FIGURES)
    changed = num_called_otherwise(run, cells)
    if changed:
        scores.paragraphs.append(
            f"The predicted class of {changed:,} of these cells differs from the one at the end of the run: "
            "the data, the version or the machine has changed."
        )
    page = _start(run, part, summaries[part], run.num_trained())
    page.cautions = cautions(obstacles)
    page.cautions += [line for line in metrics.get("cautions", []) if line not in page.cautions]
    scores.paragraphs = [*page.cautions, *scores.paragraphs]
    look = Section(
        "look", "Network and occlusion maps", pictures=run_sections.explanation_pictures(figures, summary, None)
    )
    look.paragraphs += run_sections.learnt_from(machine, run.model.hparams, run.settings)
    look.paragraphs += [f"Left out: {name}: {reason}." for name, reason in summary.get("left_out", {}).items()]
    if not look.pictures:
        look.paragraphs.append("There are no figures. Draw them with fastcell explain.")
    timed = {} if options.bench is None else read_json(options.bench)
    page.sections = [
        scores,
        unlike_section(run, part),
        data_section(run.manifest, run.split_name, options.seed, training_look(run)),
        splits_section(run.manifest, run.split_name),
        look,
        run_sections.speed_section(metrics, timed, bool(machine.get("gpus"))),
        run_sections.environment_section(machine),
        _again(run, options),
    ]
    page.place_of_studies = 1
    places = choose_cells(cells, options.num_cells, options.seed)
    page.browser = _shown(browser_data(run.manifest, cells, run.model.classes, places))
    page.confusion = summaries[part]["confusion"]
    page.browser_text = _browser_text(cells, page.browser, part)
    page.browser_command = _look_command(run, part)
    return page


def study_page(folders: list[Path], options: PageOptions) -> Page:
    """Return a page of comparisons without a run; it describes their data set if that is still available."""
    values = read_study(folders[0])
    manifest, reason = _data_of(values, options.data_path)
    names = ", ".join(map(str, values.get("methods", [])))
    if len(folders) == 1:
        page = Page(f"Comparison on {values.get('data', folders[0].name)}", f"Methods: {names}.")
    else:
        page = Page(f"{len(folders)} comparisons", f"Data and environment are those of the first one, {folders[0]}.")
    if manifest is None:
        page.lead += f" {reason}"
    else:
        split_name = next(iter(_split_names(values)), "default")
        page.synthetic = manifest.info.synthetic
        page.facts = [("data", manifest.info.name), ("cells", f"{len(manifest):,}")]
        page.sections = [
            data_section(manifest, split_name, options.seed, study_look(values, manifest)),
            _study_splits(values, manifest, split_name),
        ]
    files = ", ".join(str(folder / "study.json") for folder in folders)
    again = Section("again", "Repeat this run", [f"The settings are in {files}."])
    page.sections += [run_sections.environment_section(values.get("environment", {})), again]
    return page


def render_page(page: Page) -> str:
    """Return the page as HTML that contains its style, script and pictures."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, finalize=_shown
    )
    templates.filters["lines"] = _lines
    return templates.get_template("report.html").render(
        page=page,
        style=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=(_TEMPLATES / "cell_browser.js").read_text(encoding="utf-8"),
        version=__version__,
        date=f"{datetime.datetime.now():%Y-%m-%d %H:%M}",
    )


def _shown(value: Any) -> Any:
    """Return a value for the page, without characters in names that would reverse or hide text."""
    if isinstance(value, Mapping):
        return {name: _shown(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(each) for each in value]
    return printable(value) if type(value) is str else value  # markup comes from this program


def _lines(text: str) -> Markup:
    """Return a text of several lines, such as commands, for the page."""
    return Markup("{}").format(printable_lines(text))


def _explanation(run: FinishedRun, part: str, options: PageOptions) -> Mapping[str, Any]:
    """Return the content of explain.json of a run.

    If `options.explain` is set, draw the figures first if they are missing, older than the weights, or of other cells.

    Raises:
        FastcellError: The folder of the figures cannot be written.
    """
    path, weights = run.folder / "explain" / "explain.json", run.folder / run.checkpoint
    fresh = path.is_file() and path.stat().st_mtime >= weights.stat().st_mtime
    summary = read_json(path, EXPLAIN) if fresh else {}
    if (summary.get("checkpoint"), summary.get("cells")) != (run.checkpoint, describe_cells(run, part)):
        summary = {}
    whole = set(EXPLANATION_PARTS) <= {*summary.get("seconds", {}), *summary.get("left_out", {})}
    there = all((path.parent / f"{name}.png").is_file() for name in summary.get("captions", {}))
    if not options.explain or (whole and there):
        return summary
    try:
        return draw_parts(
            Explanation(run, FigureFiles(path.parent), seed=options.seed, say=options.say), list(EXPLANATION_PARTS)
        )
    except (OSError, ArgumentError) as error:
        raise FastcellError(
            f"{path.parent} must be a writable folder for the figures of the network, but: {error}. "
            "--no-explain writes the page without them."
        ) from None


def training_look(run: FinishedRun) -> TrainingLook:
    """Return balance, augmentation and image size of a run, from its config.yaml and its checkpoint."""
    settings, preprocessing = run.settings, run.model.preprocessing
    given = settings.get("augmentation") if settings.get("augment", True) else None
    default = Augmentation() if settings.get("augment", True) else Augmentation.none()
    share = settings.get("subsample")
    balance, cap = resolve_balance(
        str(settings.get("balance", "none")), settings.get("balance_cap"), run.trained_counts()
    )
    return TrainingLook(
        balance=balance,
        augmentation=Augmentation(**given) if isinstance(given, dict) else default,
        image_size=int(preprocessing["image_size"]),
        fit=preprocessing.get("fit", "stretch"),
        subsample=int(share) if isinstance(share, float) and share > 1 else share,
        seed=run.seed or 0,
        quality=run.quality,
        balance_cap=cap,
    )


def _start(run: FinishedRun, part: str, summary: Any, num_train: int) -> Page:
    info, classes = run.manifest.info, run.model.classes
    accuracy, balanced = summary["accuracy"], summary["balanced_accuracy"]
    network = run.model.network_name
    lead = (
        f"{network} was trained on {num_train:,} cells of {info.name} with {len(classes)} classes. It classifies "
        f"{percent(accuracy['value'], 1)} of {summary['num_cells']:,} {SUBSET_NAMES[part]} cells correctly (95 % "
        f"interval {percent(accuracy['low'], 1)} to {percent(accuracy['high'], 1)}, {describe_unit(summary)})."
    )
    facts = [
        ("run", run.folder.resolve().name),
        ("data", info.name),
        ("classes", ", ".join(classes)),
        ("cells", f"{len(run.manifest):,}"),
        ("split", run.split_name),
        ("network", f"{network}, {run.model.preprocessing['image_size']} px, {run.checkpoint}"),
        (f"{SUBSET_NAMES[part]} accuracy", f"{accuracy['value']:.3f}"),
        ("balanced accuracy", f"{balanced['value']:.3f}"),
    ]
    return Page(run.title, lead, facts, synthetic=info.synthetic)


def _look_command(run: FinishedRun, part: str) -> str:
    """Return the command that shows the errors of a subset, the most confident first, to look at and to label."""
    place = ["fastcell", "review", str(run.manifest.path.absolute()), str(run.folder.absolute())]
    split = ["--split-name", run.split_name] if run.split_name != "default" else []
    return shlex.join([*place, "--select", f"subset={part} agrees=no sort=-confidence", *split])


def _again(run: FinishedRun, options: PageOptions) -> Section:
    section, name = Section("again", "Repeat this run"), run.folder.resolve().name
    section.paragraphs.append(
        f"Run these commands in the folder that contains {name}, with the same data set "
        f"({len(run.manifest):,} cells, {run.manifest.info.name}) and the versions above:"
    )
    is_default = options.data_path is None and run.settings.get("path") is None  # synthetic cells can be made anywhere
    data = [] if is_default else ["--data.path", run.manifest.whole_place]
    test = ["--data.split_name", run.split_name] if run.split_name != "default" else []
    test += [] if run.quality else ["--data.quality", "false"]
    test += ["--tta", "true"] if run.model.hparams["tta"] else []
    lines = [
        shlex.join(["fastcell", "fit", "--config", f"{name}/config.yaml", *data]),
        shlex.join(["fastcell", "test", "--ckpt_path", f"{name}/{run.checkpoint}", *data, *test]),
        shlex.join(["fastcell", "explain", name, *data]),
        shlex.join(["fastcell", "report", name, *data]),
    ]
    section.code.append(("Commands", "\n".join(lines)))
    section.code.append(("config.yaml: every setting", (run.folder / "config.yaml").read_text(encoding="utf-8")))
    return section


def _data_of(values: Mapping[str, Any], given: str | None) -> tuple[Manifest | None, str]:
    """Return the data set of a comparison, or None and the reason why it is unavailable.

    A path in `given` is used without a check against the comparison.
    """
    if given is not None:
        return Manifest.open(given), ""
    if values.get("study") == "leakage" and "changes" in values and "source" not in values:
        return None, "Its data set was the synthetic default."  # "path" is that of the augmented images
    path = values.get("source", values.get("path"))
    if path is None:
        return None, "study.json does not name the data set. Name it with --data."
    try:
        manifest = Manifest.open(path)
    except (DataError, OSError) as error:
        return None, f"Its data set cannot be read: {error} If it has moved, name it with --data."
    if len(manifest) != values.get("source_cells", len(manifest)):
        return (
            None,
            f"{path} now holds another set of {len(manifest):,} cells. Name the original one with --data.",
        )
    return manifest, ""


def study_look(values: Mapping[str, Any], manifest: Manifest) -> TrainingLook | None:
    """Return balance, augmentation and image size of a comparison; None if its study.json does not tell them."""
    try:
        stored = values["recipe"]
        recipe = Recipe(str(stored["preset"]), data=dict(stored["data"]))
        labels = manifest.labels[manifest.labels >= 0]
        balance, cap = resolve_balance(recipe.balance, recipe.balance_cap, np.bincount(labels))
        fit = recipe.data.get("fit", "stretch")
        return TrainingLook(balance, recipe.augmentation, int(recipe.image_size), fit, balance_cap=cap, of="comparison")
    except (ArgumentError, AttributeError, KeyError, TypeError, ValueError):
        return None


def _study_splits(values: Mapping[str, Any], manifest: Manifest, split_name: str) -> Section:
    """Return the section on the splits of a comparison: that of the data set, or what it says of its own."""
    section = splits_section(manifest, split_name)
    if split_name not in manifest.split_names():
        told = [
            str(one["text"]) for one in values.get("schemes", {}).values() if isinstance(one, dict) and "text" in one
        ]
        section.paragraphs = [f"The comparison made its own splits: {'; '.join(told) or split_name}."]
    return section


def _split_names(values: Mapping[str, Any]) -> list[str]:
    names = [scheme.get("splits") for scheme in values.get("schemes", {}).values() if isinstance(scheme, dict)]
    return [str(name) for some in names if isinstance(some, list) for name in some]


def _browser_text(cells: Outputs, browser: Mapping[str, Any], part: str) -> str:
    called = cells.probabilities.argmax(axis=1)
    num_wrong = int((called != cells.labels).sum())
    shown = browser["cells"]
    shown_wrong = sum(cell["true"] != cell["called"] for cell in shown)
    text = (
        f"{len(shown):,} of {len(cells):,} {SUBSET_NAMES[part]} cells: {shown_wrong:,} of the {num_wrong:,} errors, "
        f"the most confident first, and a random sample of {len(shown) - shown_wrong:,} correctly classified cells."
    )
    lost = browser["num_lost"]
    return f"{text} {lost:,} could not be read." if lost else text
