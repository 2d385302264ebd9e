"""Search for copies that are not exact: moved, mirrored, rescaled, blurred, saved again, or of other brightness.

Rotations by any angle are found. Cells are compared within a class and a collection. Each cell is registered with its
nearest neighbours by a signature that does not change under rotation or rescaling. Pairs are copies if their agreement
after registration reaches the bounds of `fastcell.splits.copies.bounds`. The weights of the signature and the largest
distance of a copy are learnt from copies that the search itself makes of a sample of the cells. The recall is the share
found of a second set of such copies, made with other motions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.rows.take_rows import take_rows
from fastcell.dataset.single_cells import read_cells
from fastcell.splits.copies.bounds import LEAST_BOUNDS, LENIENT_CORRELATION, Bounds, learn_bounds, relax
from fastcell.splits.copies.exact import Duplicates, NearFacts, Recall, exact_sets
from fastcell.splits.copies.planting import PLANTED_KINDS, STRONG_JPEG, plant
from fastcell.splits.copies.registration import Fit, register
from fastcell.splits.copies.signature import Looks, Scale, find_scale, join_looks, look_at
from fastcell.splits.linked_groups import Ids, join_nodes
from fastcell.system.worker_processes import check_jobs, num_threads, run_tasks

SAMPLE_CELLS = 2_000
PRACTICE_PER_KIND = 150
PLANTED_PER_KIND = 100
NUM_NEIGHBOURS = 12

_PRINCIPAL, _DIRECTIONS = 64, 32
_RIDGE = 0.01
_REACH = 1.5  # search radius, in units of the distance that contains 99 % of planted copies
_PART_CELLS = 1_000
_ONE_PROCESS_CELLS = 4_000
_PART_PAIRS = 8_192

Say = Callable[[str], None]


class Link(NamedTuple):
    """Two cells that are copies of each other according to their registration.

    Attributes:
        first: cell_id, or the number of a planted copy.
        second: cell_id.
        fit: agreement of the two cells.
    """

    first: int
    second: int
    fit: Fit


@dataclass(frozen=True)
class _Metric:
    """Projection of signatures to the directions in which copies differ least and different cells most, in units of the
    spread of copies.
    """

    mean: npt.NDArray[np.float32]
    directions: npt.NDArray[np.float32]
    reach: float

    def __call__(self, signatures: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray((signatures - self.mean) @ self.directions, dtype=np.float32)


class _Probes(NamedTuple):
    """Planted copies: their prepared images, and for each copy its original cell and its kind."""

    looks: Looks
    origins: Ids
    kinds: npt.NDArray[np.int64]


def near_copies(
    manifest: Manifest,
    rows: npt.ArrayLike | None = None,
    *,
    exact: Duplicates | None = None,
    jobs: int | None = None,
    say: Say | None = None,
) -> Duplicates:
    """Find near copies, join them with the exact sets, and measure the recall of the search on planted copies.

    Args:
        manifest: manifest of the data set; its shards must exist.
        rows: (n,) cell_ids to search; None: all cells.
        exact: result of `exact_sets` for these cells; None: it is computed.
        jobs: number of processes and threads; None: one for each CPU.
        say: function that receives one line for the user at each stage.

    Raises:
        DataError: a cell is corrupt.
    """
    check_jobs(jobs)
    exact = exact_sets(manifest, rows, jobs) if exact is None else exact
    ids = np.arange(len(manifest)) if rows is None else np.unique(np.asarray(rows, np.int64))
    followers = exact.cell_ids[np.flatnonzero(np.diff(exact.sets) == 0) + 1]
    representatives = np.setdiff1d(ids, followers, assume_unique=True)
    search = _Search(manifest, representatives, jobs, say or (lambda line: None))
    links = search.run()
    near = NearFacts(search.num_plain, search.num_pairs, *search.bounds, search.recall())
    return _joined(exact, links, near)


def find_strata(manifest: Manifest, ids: Ids) -> list[Ids]:
    """Return the cells of each combination of class and collection among `ids`."""
    collections = manifest.table.column("collection").combine_chunks().dictionary_encode().indices.fill_null(-1)
    code = manifest.cell_labels[ids] * (len(manifest) + 1) + collections.to_numpy()[ids].astype(np.int64)
    order = np.argsort(code, kind="stable")
    edges = np.flatnonzero(np.diff(code[order])) + 1
    return [ids[np.sort(part)] for part in np.split(order, edges)] if len(ids) else []


class _Search:
    """State of one search, see `near_copies`."""

    def __init__(self, manifest: Manifest, ids: Ids, jobs: int | None, say: Say) -> None:
        self.manifest, self.ids, self.jobs, self.say = manifest, ids, jobs, say
        self.threads = num_threads(jobs)
        self.rng = np.random.default_rng([0, 0xC0B1])  # of the planted copies
        self.num_plain, self.num_pairs = 0, 0
        self.bounds = Bounds()
        self.details: list[npt.NDArray[np.float32]] = []
        self.links: list[Link] = []
        self.probe_links: list[Link] = []
        self.probes: _Probes | None = None

    def run(self) -> list[Link]:
        sample = np.sort(self.rng.permutation(self.ids)[:SAMPLE_CELLS])
        images = list(read_cells(self.manifest, sample.tolist()))
        if not images:
            return []
        scale = find_scale(images)
        looks = look_at(images, scale)
        shown = np.flatnonzero(~looks.plain)
        if len(shown) < 2:
            self.num_plain = len(self.ids)
            return []
        cells = {int(sample[place]): images[place] for place in shown.tolist()}
        ids, num_kinds = np.fromiter(cells, np.int64), len(PLANTED_KINDS)
        practice = self._plant(cells, scale, np.resize(self.rng.permutation(ids), (PRACTICE_PER_KIND, num_kinds)))
        # The recall of a kind has an interval by cell, so that no cell counts twice in it.
        tested = [self.rng.permutation(ids)[:PLANTED_PER_KIND] for _ in PLANTED_KINDS]
        self.probes = self._plant(cells, scale, np.stack(tested, axis=1))
        same = np.searchsorted(sample[shown], practice.origins)
        metric = _learn(looks.signatures[shown], practice.looks.signatures, same)
        pairs = np.stack([shown[same], np.arange(len(same))], axis=1)
        keep_details = pairs[practice.kinds != PLANTED_KINDS.index(STRONG_JPEG)]
        strict = learn_bounds(register(looks, practice.looks, keep_details, self.threads))
        for stratum in find_strata(self.manifest, self.ids):
            self._search_stratum(stratum, scale, metric)
        self.bounds = relax(strict, np.concatenate(self.details) if self.details else [])
        self.links, self.probe_links = (
            [link for link in links if self.bounds.met_by(link.fit)] for links in (self.links, self.probe_links)
        )
        return self.links

    def recall(self) -> tuple[Recall, ...]:
        """Return the recall by kind. A planted copy counts as found if it is linked to its original or a copy of it."""
        if self.probes is None:
            return ()
        place = {cell: place for place, cell in enumerate(self.ids.tolist())}
        component = join_nodes(len(self.ids), [(place[link.first], place[link.second]) for link in self.links])
        found = np.zeros(len(self.probes.origins), bool)
        for probe, cell, _ in self.probe_links:
            found[probe] |= component[place[cell]] == component[place[int(self.probes.origins[probe])]]
        counts = np.bincount(self.probes.kinds, minlength=len(PLANTED_KINDS))
        hits = np.bincount(self.probes.kinds[found], minlength=len(PLANTED_KINDS))
        told = zip(PLANTED_KINDS, hits.tolist(), counts.tolist(), strict=True)
        return tuple(Recall(kind, hit, num) for kind, hit, num in told)

    def _plant(self, cells: dict[int, np.ndarray], scale: Scale, of: Ids) -> _Probes:
        """Plant a copy of each cell in `of`, (n, kinds) int64, of the kind of its column."""
        kinds = np.tile(np.arange(len(PLANTED_KINDS)), len(of))
        origins = of.ravel()
        copies = [
            plant(cells[origin], PLANTED_KINDS[kind], self.rng)
            for origin, kind in zip(origins.tolist(), kinds.tolist(), strict=True)
        ]
        return _Probes(look_at(copies, scale), origins, kinds)

    def _search_stratum(self, stratum: Ids, scale: Scale, metric: _Metric) -> None:
        ids, looks = self._look(stratum, scale)
        self.num_plain += len(stratum) - len(ids)
        if not len(ids) or self.probes is None:
            return
        points = metric(looks.signatures)
        pairs = _neighbours(points, points, metric.reach, same=True)
        self.num_pairs += len(pairs)
        for (a, b), fit in self._fits(looks, looks, pairs):
            self.links.append(Link(int(ids[a]), int(ids[b]), fit))
        mine = np.flatnonzero(np.isin(self.probes.origins, ids))
        wanted = self.probes.looks.take(mine)
        pairs = _neighbours(metric(wanted.signatures), points, metric.reach, same=False)
        for (a, b), fit in self._fits(wanted, looks, pairs):
            self.probe_links.append(Link(int(mine[a]), int(ids[b]), fit))

    def _fits(self, first: Looks, second: Looks, pairs: Ids) -> Iterator[tuple[tuple[int, int], Fit]]:
        for start in range(0, len(pairs), _PART_PAIRS):
            part = pairs[start : start + _PART_PAIRS]
            fits = register(first, second, part, self.threads)
            if first is second:
                known = [fit.detail for fit in fits if fit.correlation >= LENIENT_CORRELATION]
                self.details.append(np.array(known, np.float32))
            for pair, fit in zip(part.tolist(), fits, strict=True):
                if LEAST_BOUNDS.met_by(fit):
                    yield (pair[0], pair[1]), fit

    def _look(self, stratum: Ids, scale: Scale) -> tuple[Ids, Looks]:
        """Return the cells with enough content, and their prepared images."""
        tasks = [
            _Part(self._part(stratum[start : start + _PART_CELLS]), scale)
            for start in range(0, len(stratum), _PART_CELLS)
        ]
        few = len(stratum) <= _ONE_PROCESS_CELLS
        looks = join_looks(list(run_tasks(_look_at_part, tasks, self.jobs, few)))
        shown = np.flatnonzero(~looks.plain)
        return stratum[shown], looks if len(shown) == len(looks) else looks.take(shown)

    def _part(self, ids: Ids) -> Manifest:
        return replace(self.manifest, table=take_rows(self.manifest.table, ids).combine_chunks())


class _Part(NamedTuple):
    """Cells to be prepared by a worker process: a data set with only these rows."""

    manifest: Manifest
    scale: Scale


def _look_at_part(part: _Part) -> Looks:
    return look_at(read_cells(part.manifest, range(len(part.manifest))), part.scale)


def _learn(signatures: np.ndarray, copies: np.ndarray, same: Ids) -> _Metric:
    """Learn the metric from cells (n, p) and from copies (m, p) of the cells `same` (m,).

    The directions are learnt from two thirds of the copies, the reach from the others.
    """
    from scipy.linalg import eigh

    mean = signatures.mean(0)
    _, _, axes = np.linalg.svd(signatures - mean, full_matrices=False)
    axes = axes[:_PRINCIPAL].T
    steps = copies - signatures[same]
    held = np.arange(len(steps)) // len(PLANTED_KINDS) % 3 == 0
    moved = steps[~held] @ axes
    within = moved.T @ moved / len(moved)
    within += np.eye(len(within)) * max(_RIDGE * np.trace(within) / len(within), 1e-9)
    between = np.cov(((signatures - mean) @ axes).T).reshape(within.shape)
    _, vectors = eigh(between, within)
    directions = axes @ vectors[:, ::-1][:, :_DIRECTIONS]
    reach = _REACH * float(np.quantile(np.linalg.norm(steps[held] @ directions, axis=1), 0.99))
    return _Metric(mean.astype(np.float32), directions.astype(np.float32), reach)


def _neighbours(points: np.ndarray, among: np.ndarray, reach: float, same: bool) -> Ids:
    """Return (P, 2) int64, pairs of each point and those of its 12 nearest neighbours that are within reach.

    With `same`, `points` and `among` are the same points, and each pair occurs once.
    """
    from sklearn.neighbors import NearestNeighbors

    num = min(NUM_NEIGHBOURS + same, len(among))
    if not len(points) or num <= same:
        return np.zeros((0, 2), np.int64)
    search = NearestNeighbors(n_neighbors=num, algorithm="brute").fit(among)
    distance, index = search.kneighbors(points)
    own = np.repeat(np.arange(len(points))[:, None], num, axis=1)
    near = distance <= reach
    pairs = np.stack([own[near], index[near]], axis=1).astype(np.int64)
    if same:
        pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    return pairs


def _joined(exact: Duplicates, links: Sequence[Link], near: NearFacts) -> Duplicates:
    """Join the exact sets with the sets that the links form."""
    best: dict[int, float] = dict.fromkeys(exact.cell_ids.tolist(), 1.0)
    for first, second, fit in links:
        for cell in (first, second):
            best[cell] = max(best.get(cell, -1.0), fit.correlation)
    cells = np.array(sorted(best), np.int64)
    place = {cell: place for place, cell in enumerate(cells.tolist())}
    representatives = (
        exact.cell_ids[np.concatenate([[0], np.flatnonzero(np.diff(exact.sets)) + 1])] if len(exact) else []
    )
    pairs = [
        (place[int(representatives[number])], place[cell])
        for cell, number in zip(exact.cell_ids.tolist(), exact.sets.tolist(), strict=True)
    ]
    pairs += [(place[link.first], place[link.second]) for link in links]
    sets = join_nodes(len(cells), pairs)
    order = np.argsort(sets, kind="stable")
    kinds = np.where(np.isin(cells, exact.cell_ids), "exact", "near").astype("<U5")
    correlations = np.array([best[cell] for cell in cells.tolist()], np.float32)
    blank = np.isin(cells, exact.cell_ids[exact.blank])
    return replace(
        exact,
        cell_ids=cells[order],
        sets=sets[order],
        kinds=kinds[order],
        correlations=correlations[order],
        blank=blank[order],
        near=near,
    )
