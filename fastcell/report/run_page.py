"""The page of a run: scores, errors, data, splits, figures and the commands that repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from fastcell.dataset.class_balance import resolve_balance
from fastcell.dataset.schema import SUBSET_NAMES
from fastcell.errors import ArgumentError, FastcellError, invalid
from fastcell.explain.explanation import EXPLANATION_PARTS, Explanation, describe_cells, draw_parts
from fastcell.inference.probabilities import Outputs, num_called_otherwise, part_outputs
from fastcell.ops.augmentation import Augmentation
from fastcell.plots.basic_figures import MOST_NAMED_CLASSES
from fastcell.plots.figure_files import FigureFiles
from fastcell.report import run_sections
from fastcell.report.cell_browser import browser_data, choose_cells
from fastcell.report.data_card import data_section, splits_section
from fastcell.report.data_summary import TrainingLook
from fastcell.report.page import Page, PageOptions, for_page
from fastcell.report.page_elements import Section, percent
from fastcell.report.run_sections import ENVIRONMENT, EXPLAIN, METRICS, read_json
from fastcell.report.unlike_section import unlike_section
from fastcell.runs.open_run import FinishedRun
from fastcell.runs.run_folder import CONFUSION_STEM
from fastcell.splits.obstacles import cautions, refuse_obstacles, split_obstacles
from fastcell.stats.scores import describe_unit


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
    page.browser = for_page(browser_data(run.manifest, cells, run.model.classes, places))
    page.browser_text = _browser_text(cells, page.browser, part)
    if len(run.model.classes) <= MOST_NAMED_CLASSES:
        page.confusion = summaries[part]["confusion"]
    else:
        page.browser_text += f" Cells by true and predicted class are in {CONFUSION_STEM}.csv of the run."
    page.browser_command = _look_command(run, part)
    return page


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
    place = ["fastcell", "review", run.manifest.whole_place, str(run.folder.absolute())]
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
