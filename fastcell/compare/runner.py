"""Compute the tasks of a study: load finished ones, compute the others, and save each when it is finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from fastcell.compare.baselines import MAX_CELLS_WITHOUT_PCA, MAX_SVM_CELLS, METHODS, Knn, find_backend, make_baseline
from fastcell.compare.image_array import CellImages, fingerprint, flat_pixels, make_images
from fastcell.compare.saved_results import PARTS, Task, TaskResult, load_result, make_key, make_result, save_result
from fastcell.compare.split_schemes import Scheme, SplitManifest
from fastcell.dataset.integrity import WHOLE, check_stored_bytes
from fastcell.dataset.manifest import Manifest
from fastcell.dataset.views import ViewConfig, select
from fastcell.errors import ArgumentError, did_you_mean, invalid
from fastcell.loading.preprocessing import Preprocessing
from fastcell.system.resources import available_memory, has_gpu, num_cpus
from fastcell.system.worker_processes import watched_workers
from fastcell.training.recipe import Recipe

FRAME = "frame"
METHOD_NAMES = {"cnn": "CNN", "gao": "Gao et al.", "svm": "SVM", "knn": "kNN", FRAME: "frame alone (kNN)"}
_OWN_NETWORKS = {"cnn": None, "gao": "gao"}  # None: the network of the recipe
# With fewer training cells in total, starting processes takes longer than it saves.
_WORTH_PROCESSES = 20_000
_CHUNK = 4096


def method_name(method: str) -> str:
    """Return the display name of a method for tables and figures."""
    return METHOD_NAMES.get(method, method)


def is_network(method: str) -> bool:
    """Return whether a method is trained as a network."""
    return method not in (*METHODS, FRAME)


def check_methods(text: str) -> list[str]:
    """Parse the methods of ``--methods``: cnn, gao, svm, knn, frame, or names of networks.

    Returns:
        The names in the given order, without repeats.

    Raises:
        ArgumentError: A method is unknown, or there is none.
    """
    methods = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    known = [*_OWN_NETWORKS, *METHODS, FRAME]
    if any(method not in known for method in methods):
        from fastcell.models.registry import network_names

        known += network_names()
    for method in methods:
        if method not in known:
            rule = "among cnn, gao, svm, knn, frame, or names of networks (fastcell fit --model.network)"
            raise invalid("--methods", rule, method, f"{did_you_mean(method, known)} Separate them with commas".strip())
    if not methods:
        raise invalid("--methods", "at least one name", text, "Write for example cnn,svm,knn")
    return methods


def units_of(manifest: Manifest) -> tuple[np.ndarray, str]:
    """Return the independent unit of each cell, and the word for such units.

    Returns:
        (N,) int64, number of each cell's group, and ``group``. A cell without a group gets a number of its own. If the
        data set has no groups, every cell is a unit, and the word is ``cell``.
    """
    if manifest.groups is None:
        return np.arange(len(manifest)), "cell"
    return manifest.groups.units(), "group"


@dataclass
class Study:
    """Data of a study and settings of its methods.

    Attributes:
        manifest: Manifest of the data set, with the splits of the schemes.
        schemes: Schemes by name.
        recipe: Recipe of the networks; all methods use its preprocessing.
        out_dir: Folder for `cells/` (the finished tasks) and the images.
        components: Number of PCA components of the baselines, or None for no PCA.
        backend: Backend of the baselines.
        min_steps: Minimum number of optimizer steps of a network.
        jobs: Number of processes for the baselines; 0 to choose it automatically.
        units: (N,) int64, number of the independent unit of each cell.
        unit: Word for such units: group, source cell or cell.
        notes: Sentences on classes that take no part.
        cautions: Sentences on why scores are not valid for some classes; they are printed above the tables.
        say: Callable that receives each message for the user.
        corrupt: Rows of cells that cannot be read; they are excluded.
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
    notes: list[str] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)
    say: Callable[[str], None] = print
    corrupt: set[int] = field(default_factory=set)
    _images: dict[int, CellImages] = field(default_factory=dict)
    _prints: dict[bytes, str] = field(default_factory=dict)
    _parts: dict[tuple[str, float, int], dict[str, np.ndarray]] = field(default_factory=dict)
    _preprocessing: dict[int, Preprocessing] = field(default_factory=dict)

    @property
    def cells_dir(self) -> Path:
        """Folder of the finished tasks."""
        return self.out_dir / "cells"

    def parts(self, task: Task) -> dict[str, np.ndarray]:
        """Return the rows of the manifest by subset; they are the same for every method."""
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
        """Return the results of all tasks, in their order: load finished tasks, and compute and save the others.

        Raises:
            ArgumentError: A method cannot take its cells.
            KeyboardInterrupt: The user stopped the run. Finished tasks stay saved.
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
            self.say(f"{len(done)} of {len(tasks)} tasks are finished, {len(todo)} remain")
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
        """Return the preprocessed cells with images of side `size` [px].

        Corrupt cells that are found here are excluded from the study.
        """
        if size not in self._images:
            rows = select(self.manifest, ViewConfig(labelled=True)).rows
            start = time.perf_counter()
            images = make_images(self.manifest, rows, self.preprocessing(size), self.out_dir)
            self._images[size] = images
            corrupt = images.corrupt_rows()
            took = time.perf_counter() - start
            self.say(f"{len(rows):,} cells at {size} x {size} pixels in {took:.1f} s")
            self._leave_out(corrupt)
        return self._images[size]

    def find_corrupt_cells(self) -> None:
        """Exclude cells whose stored bytes are not those that were packed, for a study that makes no images."""
        rows = select(self.manifest, ViewConfig(labelled=True)).rows
        self._leave_out(rows[check_stored_bytes(self.manifest, rows, jobs=num_cpus()) != WHOLE])

    def _leave_out(self, corrupt: np.ndarray) -> None:
        if len(corrupt):
            self.say(f"corrupt cells are excluded (`fastcell verify` lists them): {len(corrupt):,}")
            self.corrupt |= set(corrupt.tolist())
            self._parts.clear()

    def drop_images(self) -> None:
        """Remove all files of preprocessed cells in the folder. They can be computed again."""
        for path in self.out_dir.glob("images-*px-*.*"):
            path.unlink(missing_ok=True)
        self._images.clear()

    def preprocessing(self, size: int) -> Preprocessing:
        """Return the preprocessing for images of side `size` [px]."""
        if size not in self._preprocessing:
            from fastcell.compare.train_network import make_data

            nothing = {part: np.empty(0, np.int64) for part in PARTS}
            self._preprocessing[size] = make_data(self.manifest, nothing, self.recipe.at_size(size), 0, 1).preprocessing
        return self._preprocessing[size]

    def refusal(self, method: str, num_cells: int) -> str | None:
        """Return the reason why a method cannot take this number of training cells, or None if it can."""
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
        accuracy = float((predicted == self.manifest.cell_labels[rows]).mean()) if len(rows) else float("nan")
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
        """Return a hash of the stored cells of some subsets."""
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

        with parallel_config("loky", inner_max_num_threads=1, **watched_workers()):
            yield from Parallel(n_jobs=num, return_as="generator", batch_size=1)(
                delayed(_fit_baseline)(*job) for job in jobs
            )

    def _num_processes(self, tasks: list[Task]) -> int:
        """Return the number of processes: limited by cores, tasks, and memory for the PCA's copies of the cells."""
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
        from joblib import Parallel, delayed, parallel_config

        lists = [(jobs[number :: len(gpus)], gpu) for number, gpu in enumerate(gpus)]  # one process per GPU
        with parallel_config("loky", **watched_workers()):
            for results in Parallel(n_jobs=len(gpus))(delayed(_fit_on)(mine, gpu) for mine, gpu in lists):
                yield from results


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
    """Fit one baseline of the study and save its result; may run in a separate process."""
    kind = "knn" if task.method == FRAME else task.method
    estimator = make_baseline(kind, random_state=task.seed, **options)
    train = parts["train"]
    if isinstance(estimator, Knn) and len(train) > estimator.num_references:
        train = train[estimator.references(len(train))]  # other cells need not be read
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
