"""Work through the cells of a study's table: what is finished is taken, the rest is computed and saved one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from fastcell.compare.baselines import MAX_CELLS_WITHOUT_PCA, MAX_SVM_CELLS, METHODS, Knn, find_backend, make_baseline
from fastcell.compare.image_array import CellImages, fingerprint, flat_pixels, make_images
from fastcell.compare.saved_results import PARTS, Task, TaskResult, load_result, make_key, make_result, save_result
from fastcell.compare.split_schemes import Scheme, SplitManifest
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.views import ViewConfig, select
from fastcell.errors import ArgumentError, invalid
from fastcell.loading.preprocessing import Preprocessing
from fastcell.storage.whole_files import write_json, write_text
from fastcell.system.resources import available_memory, has_gpu, num_cpus
from fastcell.training.recipe import Recipe

FRAME = "frame"
METHOD_NAMES = {"cnn": "CNN", "gao": "Gao et al.", "svm": "SVM", "knn": "kNN", FRAME: "frame alone (kNN)"}
_OWN_NETWORKS = {"cnn": None, "gao": "gao"}  # None: the network of the recipe
# Below this many training cells in all, starting processes takes longer than what they save.
_WORTH_PROCESSES = 20_000
_CHUNK = 4096


def method_name(method: str) -> str:
    """The name of a method in tables and figures."""
    return METHOD_NAMES.get(method, method)


def is_network(method: str) -> bool:
    """Whether a method is trained as a network."""
    return method not in (*METHODS, FRAME)


def check_methods(text: str) -> list[str]:
    """The methods of ``--methods``: cnn, gao, svm, knn, frame, or a network's name.

    Raises:
        ArgumentError: an unknown one, or none.
    """
    methods = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    known = [*_OWN_NETWORKS, *METHODS, FRAME]
    if any(method not in known for method in methods):
        from fastcell.models.registry import network_names

        known += network_names()
    for method in methods:
        if method not in known:
            rule = "among cnn, gao, svm, knn, frame, or names of networks (fastcell fit --model.network)"
            raise invalid("--methods", rule, method, "Separate them with commas")
    if not methods:
        raise invalid("--methods", "at least one name", text, "Write for example cnn,svm,knn")
    return methods


def units_of(manifest: Manifest) -> tuple[np.ndarray, str]:
    """(N,) int64 number of each cell's group, or its own where it has none; and the word for such units."""
    if manifest.groups is None:
        return np.arange(len(manifest)), "cell"
    _, units = np.unique(manifest.groups, return_inverse=True)
    loose = manifest.groups == ""
    units[loose] = len(manifest) + np.flatnonzero(loose)
    return units, "group"


@dataclass
class Study:
    """The data of a study and how its methods are set.

    Attributes:
        manifest: of the data set, with the schemes' splits.
        schemes: by name.
        recipe: of the networks; its preprocessing is everybody's.
        out_dir: gets `cells/` and the images.
        components: of the baselines' PCA, or None.
        backend: of the baselines.
        min_steps: floor of a network's training.
        jobs: processes for the baselines; 0 chooses.
        units: (N,) int64, what is independent of each other, by number.
        unit: what that is: group, source cell or cell.
        say: takes lines for the user.
        corrupt: rows of cells that could not be read, which take no part.
    """

    manifest: SplitManifest
    schemes: dict[str, Scheme]
    recipe: Recipe
    out_dir: Path
    units: np.ndarray
    unit: str = "cell"
    components: int | None = 64
    backend: str = "auto"
    min_steps: int = 600
    jobs: int = 0
    say: Callable[[str], None] = print
    corrupt: set[int] = field(default_factory=set)
    _images: dict[int, CellImages] = field(default_factory=dict)
    _prints: dict[bytes, str] = field(default_factory=dict)
    _parts: dict[tuple[str, float, int], dict[str, np.ndarray]] = field(default_factory=dict)
    _preprocessing: dict[int, Preprocessing] = field(default_factory=dict)

    def count_units(self) -> int:
        """How many units the labelled cells are of."""
        return len(np.unique(self.units[self.manifest.labels >= 0]))

    @property
    def cells_dir(self) -> Path:
        """Folder of the finished cells."""
        return self.out_dir / "cells"

    def parts(self, task: Task) -> dict[str, np.ndarray]:
        """Rows of the manifest by part; the same for every method."""
        which = task.split, task.volume, task.seed
        if which not in self._parts:
            self._parts[which] = self._select(task)
        return self._parts[which]

    def _select(self, task: Task) -> dict[str, np.ndarray]:
        parts = {}
        for part in PARTS:
            share = task.volume if part == "train" and task.volume < 1 else None
            config = ViewConfig(part, task.split, share, seed=task.seed, labelled=True)
            try:
                parts[part] = select(self.manifest, config).rows
            except ArgumentError:
                if part != "valid":
                    raise
                parts[part] = np.empty(0, np.int64)
            if self.corrupt:
                parts[part] = np.setdiff1d(parts[part], list(self.corrupt))
        return parts

    def run(self, tasks: Sequence[Task]) -> list[TaskResult]:
        """The results of all tasks, in their order.

        Raises:
            ArgumentError: a method refuses its cells.
            KeyboardInterrupt: what was finished until then stays.
        """
        self.cells_dir.mkdir(parents=True, exist_ok=True)
        done: dict[Task, TaskResult] = {}
        if any(self._find(task) is None for task in tasks):
            for size in dict.fromkeys(task.image_size for task in tasks):  # may find corrupt cells
                self.images(size)
        todo = []
        for task in tasks:
            found = self._find(task)
            if found is None:
                todo.append(task)
            else:
                done[task] = found
        if done:
            self.say(f"{len(done)} of {len(tasks)} cells of the table are there, {len(todo)} to go")
        makers = (
            self._baselines([task for task in todo if not is_network(task.method)]),
            self._networks([task for task in todo if is_network(task.method)]),
        )
        for results in makers:
            for result in results:
                done[result.task] = result
                self.say(f"[{len(done)}/{len(tasks)}] {self._line(result)}")
        return [done[task] for task in tasks]

    def images(self, size: int) -> CellImages:
        """Preprocessed cells of this side [px]."""
        if size not in self._images:
            rows = select(self.manifest, ViewConfig(labelled=True)).rows
            start = time.perf_counter()
            images = make_images(self.manifest, rows, self.preprocessing(size), self.out_dir)
            self._images[size] = images
            corrupt = images.corrupt_rows()
            took = time.perf_counter() - start
            self.say(f"{len(rows):,} cells at {size} x {size} pixels in {took:.1f} s")
            if len(corrupt):
                self.say(f"{len(corrupt):,} cells could not be read and take no part (`fastcell verify` lists them)")
                self.corrupt |= set(corrupt.tolist())
                self._parts.clear()
        return self._images[size]

    def drop_images(self) -> None:
        """Remove all preprocessed cells in the folder, which can be made again."""
        for path in self.out_dir.glob("images-*px-*.npy"):
            path.unlink(missing_ok=True)
        self._images.clear()

    def preprocessing(self, size: int) -> Preprocessing:
        """Of the images of this side [px]."""
        if size not in self._preprocessing:
            from fastcell.compare.train_network import make_data

            nothing = {part: np.empty(0, np.int64) for part in PARTS}
            self._preprocessing[size] = make_data(self.manifest, nothing, self.recipe.at_size(size), 0, 1).preprocessing
        return self._preprocessing[size]

    def refusal(self, method: str, num_cells: int) -> str | None:
        """Why a method cannot take this many training cells; None where it can."""
        if is_network(method):
            return None
        backend = find_backend(self.backend).name
        if method == "svm" and num_cells > MAX_SVM_CELLS[backend]:
            return f"{num_cells:,} training cells, at most {MAX_SVM_CELLS[backend]:,} with {backend}"
        if self.components is None and num_cells > MAX_CELLS_WITHOUT_PCA:
            return f"{num_cells:,} training cells, at most {MAX_CELLS_WITHOUT_PCA:,} with --pca none"
        return None

    def _line(self, result: TaskResult) -> str:
        task = result.task
        rows, predicted = result.of("test")
        accuracy = float((predicted == self.manifest.labels[rows]).mean()) if len(rows) else float("nan")
        num = len(result.of("train")[0])
        return (
            f"{method_name(task.method)}, {num:,} training cells, {task.split}, seed {task.seed}: test accuracy "
            f"{accuracy:.3f}, fitted in {result.fit_s:.1f} s"
        )

    def _find(self, task: Task) -> TaskResult | None:
        return load_result(self.cells_dir, self._key(task, self.parts(task)), task)

    def _key(self, task: Task, parts: dict[str, np.ndarray]) -> str:
        settings: dict[str, Any] = {"cells": self.print_of(parts)}
        if is_network(task.method):
            settings |= {"recipe": self._recipe(task).to_dict(), "min_steps": self.min_steps, "gpu": has_gpu()}
        else:
            backend = find_backend(self.backend).name
            prepared = self.preprocessing(task.image_size).to_dict()
            settings |= {"components": self.components, "backend": backend, "preprocessing": prepared}
        return make_key(task, parts, settings)

    def print_of(self, parts: dict[str, np.ndarray]) -> str:
        """Hash of the stored cells of some parts."""
        rows = np.unique(np.concatenate(list(parts.values())))
        name = blake2b(rows.tobytes()).digest()
        if name not in self._prints:
            self._prints[name] = fingerprint(self.manifest, rows)
        return self._prints[name]

    def _recipe(self, task: Task) -> Recipe:
        recipe = self.recipe.at_size(task.image_size)
        network = _OWN_NETWORKS.get(task.method, task.method)
        return recipe if network is None else recipe.with_model(network=network)

    def _baselines(self, tasks: list[Task]) -> Iterator[TaskResult]:
        if not tasks:
            return
        backend = find_backend(self.backend).name
        self.say(f"baselines: {backend}, " + ("no PCA" if self.components is None else f"PCA to {self.components}"))
        jobs: list[tuple[Any, ...]] = []
        for task in tasks:
            parts = self.parts(task)
            options = {"components": self.components, "backend": backend}
            saved = (self.cells_dir, self._key(task, parts))
            jobs.append((task, parts, self.images(task.image_size), self.manifest.labels, options, saved))
        cells = sum(len(job[1]["train"]) for job in jobs)
        num = self.jobs or (self._num_processes(tasks) if cells > _WORTH_PROCESSES and backend != "cuml" else 1)
        if num == 1 or len(jobs) == 1:
            yield from (_fit_baseline(*job) for job in jobs)
            return
        from joblib import Parallel, delayed, parallel_config

        with parallel_config("loky", inner_max_num_threads=1):
            yield from Parallel(n_jobs=num, return_as="generator", batch_size=1)(
                delayed(_fit_baseline)(*job) for job in jobs
            )

    def _num_processes(self, tasks: list[Task]) -> int:
        """As many as there are cores and tasks, and as the memory takes copies of what PCA works on."""
        side = max(task.image_size for task in tasks)
        each = 3 * 20_000 * side * side * 4
        return max(1, min(num_cpus(), len(tasks), available_memory() // (2 * each)))

    def _networks(self, tasks: list[Task]) -> Iterator[TaskResult]:
        if not tasks:
            return
        gpus: list[int | None] = [None]
        if has_gpu():
            import torch

            gpus = list(range(torch.cuda.device_count()))
        jobs: list[tuple[Any, ...]] = []
        for task in tasks:
            parts = self.parts(task)
            images, recipe = self.images(task.image_size), self._recipe(task)
            saved = (self.cells_dir, self._key(task, parts))
            jobs.append((task, self.manifest, parts, images, recipe, self.min_steps, saved))
        if len(gpus) == 1 or len(jobs) == 1:
            yield from (_fit_network(gpus[0], *job) for job in jobs)
            return
        from joblib import Parallel, delayed

        lists = [(jobs[number :: len(gpus)], gpu) for number, gpu in enumerate(gpus)]  # one process for each GPU
        for results in Parallel(n_jobs=len(gpus), backend="loky")(delayed(_fit_on)(mine, gpu) for mine, gpu in lists):
            yield from results


def write_study_report(
    study: Study, methods: list[str], settings: Mapping[str, Any], lines: list[str], asked: Mapping[str, Any]
) -> list[str]:
    """Write ``report.md`` and ``study.json`` into the study's folder; returns the lines of the report.

    Args:
        study: that was run; of leakage, on the augmented set.
        methods: names.
        settings: what was asked for, `study` and `preset` among them; ``study.json`` holds them.
        lines: of the report.
        asked: `source`, the folder of the data set as asked for (None for the synthetic default), `source_cells`, how
            many it holds, and `changes`, the arguments that change the preset.
    """
    from fastcell.system import environment_report

    kind = "synthetic cells" if study.manifest.info.synthetic else "cells"
    machine = {key: value for key, value in environment_report.describe_environment().items() if key != "cache_dir"}
    where = "; ".join(machine["gpus"]) or f"no GPU, {machine['cpu']}, {machine['num_cpus']} cores"
    header = [
        f"# {study.manifest.info.name}: study of {settings['study']}",
        "",
        f"{len(study.manifest):,} {kind}; preset {settings['preset']}; {where}; fastcell {machine['fastcell']}.",
        "",
    ]
    write_text(study.out_dir / "report.md", "\n".join([*header, *lines]).rstrip() + "\n")
    write_json(
        study.out_dir / "study.json",
        {
            "study": settings["study"],
            "data": study.manifest.info.name,
            "path": str(study.manifest.path.absolute()),
            "methods": methods,
            **asked,
            "settings": dict(settings),
            "recipe": asdict(study.recipe),
            "schemes": {
                scheme.name: {"text": scheme.text, "splits": list(scheme.splits)} for scheme in study.schemes.values()
            },
            "environment": machine,
        },
    )
    return [*header, *lines]


def _fit_on(jobs: list[tuple[Any, ...]], gpu: int | None) -> list[TaskResult]:
    return [_fit_network(gpu, *job) for job in jobs]


def _fit_network(
    gpu: int | None,
    task: Task,
    manifest: SplitManifest,
    parts: dict[str, np.ndarray],
    images: CellImages,
    recipe: Recipe,
    min_steps: int,
    saved: tuple[Path, str],
) -> TaskResult:
    from fastcell.compare.train_network import fit_network

    result = fit_network(task, manifest, parts, images, recipe, min_steps, gpu)
    save_result(*saved, result)
    return result


def _fit_baseline(
    task: Task,
    parts: dict[str, np.ndarray],
    images: CellImages,
    labels: np.ndarray,
    options: dict[str, Any],
    saved: tuple[Path, str],
) -> TaskResult:
    """Fit one baseline of the table and save it; may run in a process of its own."""
    kind = "knn" if task.method == FRAME else task.method
    estimator = make_baseline(kind, random_state=task.seed, **options)
    train = parts["train"]
    if isinstance(estimator, Knn) and len(train) > estimator.num_references:
        train = train[estimator.references(len(train))]  # the rest need not be read
    read = partial(flat_pixels, images, frame_only=task.method == FRAME)
    given, given_labels = read(train), labels[train]
    valid = (read(parts["valid"]), labels[parts["valid"]]) if len(parts["valid"]) else ()
    start = time.perf_counter()
    estimator.fit(given, given_labels, *valid)
    fit_s = time.perf_counter() - start
    del given, valid
    predicted, predict_s = {}, 0.0
    for part in PARTS:
        predict_s, called = 0.0, [np.empty(0, np.int64)]
        for begin in range(0, len(parts[part]), _CHUNK):
            chunk = read(parts[part][begin : begin + _CHUNK])
            start = time.perf_counter()
            called.append(estimator.predict(chunk))
            predict_s += time.perf_counter() - start
        predicted[part] = np.concatenate(called)
    details = {"backend": estimator.backend_, "parameters": estimator.parameters_, "components": estimator.components}
    result = make_result(task, parts, predicted, fit_s, predict_s, details)
    save_result(*saved, result)
    return result
