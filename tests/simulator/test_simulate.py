"""Simulated cells: number and seed settle everything, images measure like the samples, overlap is as stated."""

import io

import cv2
import numpy as np
import pytest

from fastcell.errors import ArgumentError
from fastcell.simulator import cell_classes
from fastcell.simulator import simulate as simulator
from fastcell.simulator.cell_classes import CLASSES, DEFECTS, MEASURED
from fastcell.simulator.parameter_columns import F
from fastcell.simulator.simulate import draw_cell, draw_parameters, make_cells, simulate

ODD_SAMPLES = {"PBMC_01", "PBMC_07", "MCF7_04", "MCF7_08", "MB231_03"}
"""Rotated, cut, beside debris, two cells, burst: not measured."""

GOLDEN_COLUMNS = [
    F.class_index,
    F.recording,
    F.defect,
    F.height,
    F.width,
    F.diameter_um,
    F.deformation,
    F.granularity,
    F.rim_width,
    F.background,
    F.noise,
    F.phase_5,
    F.debris_y,
    F.noise_y,
]
GOLDEN = [
    [
        0,
        96,
        0,
        58,
        317,
        15.9581505,
        0.111303436,
        12.5724421,
        0.319359686,
        203.00433,
        1.57183304,
        5.93834258,
        0.720647308,
        31,
    ],
    [
        1,
        74,
        3,
        50,
        302,
        14.5813521,
        -0.00831060483,
        14.5143025,
        0.143415867,
        190.344811,
        1.99429221,
        4.89689353,
        0.541941264,
        22,
    ],
    [
        1,
        76,
        0,
        52,
        325,
        17.0045202,
        0.0147086898,
        23.4013204,
        0.197441529,
        194.529594,
        2.199338,
        4.3479828,
        0.427591125,
        50,
    ],
]


def measure(image, bright):
    """Background and cell of a (128, 128) image as the simulator's text describes it."""
    levels = image.astype(np.float32)
    frame = np.ones(levels.shape, bool)
    frame[12:-12, 12:-12] = False
    background = float(np.median(levels[frame]))
    relative = levels - background
    smooth = cv2.GaussianBlur(relative, (0, 0), 1.0)
    mask = ((smooth < -25) if bright else (smooth > 25)).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    _, _, boxes, _ = cv2.connectedComponentsWithStats(mask)
    x, y, width, height, _ = boxes[1 + np.argmax(boxes[1:, 4])]
    far = np.ones(levels.shape, bool)
    far[max(0, y - 14) : y + height + 14, max(0, x - 14) : x + width + 14] = False
    empty = np.where(far, levels, np.nan)
    columns = np.nanmean(empty, 0)
    rows = np.nanmean(empty - columns, 1)
    slow_columns = cv2.GaussianBlur(columns[None], (0, 0), 8)[0]
    slow_rows = cv2.GaussianBlur(rows[None], (0, 0), 6)[0]
    rest = empty - columns - rows[:, None]
    ys, xs = np.mgrid[:128, :128]
    radius = np.hypot((xs - x - width / 2 + 0.5) / (width / 2), (ys - y - height / 2 + 0.5) / (height / 2))
    return {
        "background": background,
        "noise": float(np.nanstd(rest)),
        "stripes": float((columns - slow_columns).std()),
        "column_drift": float(np.ptp(slow_columns)),
        "row_drift": float(np.ptp(slow_rows)),
        "width": width / 128,
        "height": height / 128,
        "darkest": float(relative.min()),
        "brightest": float(relative.max()),
        "center": float(relative[(radius > 0.15) & (radius < 0.45)].mean()),
        "rim": float(relative[abs(radius - 0.8) < 0.05].mean()),
    }


def as_square(row):
    """The cell as the samples are: JPEG, resized to 128 x 128, JPEG."""
    image = draw_cell(row)
    for size in (image.shape[::-1], (128, 128)):
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        image = read(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 75])[1].tobytes())
    return image


def read(data):
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return np.asarray(image, np.uint8)


def of_class(rows, name, relief):
    return rows[(rows[:, F.class_index] == CLASSES.index(name)) & (rows[:, F.relief] == relief)]


@pytest.mark.parametrize(
    ("collection", "names"), [("collection-1", ("THP1", "PBMC")), ("collection-2", ("MCF7", "MB231"))]
)
def test_samples_measure_as_the_table_says(real_data, collection, names):
    files = [path for name in names for path in sorted((real_data / "atom-samples").glob(f"{name}_*.jpg"))]
    found = [
        measure(read(path.read_bytes()), collection == "collection-2") for path in files if path.stem not in ODD_SAMPLES
    ]
    assert len(found) in (14, 11)
    for name, (low, high) in MEASURED[collection].items():
        values = [one[name] for one in found]
        tolerance = max(0.02 * (high - low), 0.006 if name in ("width", "height") else 0.06 if high < 20 else 1.0)
        assert min(values) == pytest.approx(low, abs=tolerance), name
        assert max(values) == pytest.approx(high, abs=tolerance), name


@pytest.mark.parametrize(
    ("name", "collection"),
    [("THP1", "collection-1"), ("PBMC", "collection-1"), ("MCF7", "collection-2"), ("MB231", "collection-2")],
)
def test_simulated_cells_measure_like_the_samples(name, collection):
    rows = of_class(draw_parameters(np.arange(6000), 3, 0.0), name, collection == "collection-1")[:60]
    assert len(rows) == 60
    found = [measure(as_square(row), collection == "collection-2") for row in rows]
    for quantity, (low, high) in MEASURED[collection].items():
        middle = float(np.median([one[quantity] for one in found]))
        assert low <= middle <= high, (quantity, middle)


def test_samples_carry_the_simulators_jpeg_table(real_data):
    image = pytest.importorskip("PIL.Image")
    real = image.open(real_data / "atom-samples" / "MCF7_01.jpg")
    ours = next(iter(simulate(1))).encode()
    assert image.open(io.BytesIO(ours)).quantization == real.quantization


def test_squares_take_as_many_bytes_as_the_samples():
    sizes = [
        len(cv2.imencode(".jpg", cv2.resize(cell.pixels, (128, 128)), [cv2.IMWRITE_JPEG_QUALITY, 75])[1])
        for cell in simulate(200, 1, 0.0)
    ]
    assert min(sizes) >= 1085
    assert max(sizes) <= 2000  # samples: 1,085 to 1,978


def test_latent_parameters_are_golden():
    """A change here is a new version of the generator."""
    assert simulator.GENERATOR == "synthetic-atom 1"
    rows = draw_parameters([0, 1, 7999], 0)
    np.testing.assert_allclose(rows[:, GOLDEN_COLUMNS], GOLDEN, rtol=1e-6)


def test_a_cell_follows_from_seed_and_number_alone():
    whole = {cell.index: cell for cell in simulate(40, 5)}
    some = list(make_cells([31, 2, 17], 5))
    assert [cell.index for cell in some] == [31, 2, 17]
    for cell in some:
        same = whole[cell.index]
        assert (cell.key, cell.class_name, cell.group, cell.collection, cell.defect) == (
            same.key, same.class_name, same.group, same.collection, same.defect,
        )  # fmt: skip
        np.testing.assert_array_equal(cell.pixels, same.pixels)
        np.testing.assert_array_equal(cell.parameters, same.parameters)


def test_seeds_give_different_cells():
    first, second = draw_parameters(np.arange(50), 0), draw_parameters(np.arange(50), 1)
    assert (first[:, F.diameter_um] != second[:, F.diameter_um]).all()
    assert simulator.recordings(0).upper[3] != simulator.recordings(1).upper[3]


def test_class_frequencies_follow_the_paper_for_any_number():
    total = sum(cells for _, _, cells, _ in cell_classes.STRATA)
    for num_cells in (500, 8000):
        rows = draw_parameters(np.arange(num_cells), 9)
        made = simulator.recordings(9)
        for collection, name, cells, _ in cell_classes.STRATA:
            inside = [
                made.collections[int(recording)] == collection and CLASSES[int(label)] == name
                for recording, label in rows[:, [F.recording, F.class_index]]
            ]
            assert sum(inside) == pytest.approx(num_cells * cells / total, abs=3)


def test_classes_stay_in_their_collections_and_recordings_hold_one_class():
    made = simulator.recordings(2)
    seen = {"collection-1": set(), "collection-2": set()}
    for label, collection, group in zip(made.class_index, made.collections, made.groups, strict=True):
        seen[collection].add(CLASSES[label])
        assert group.split("-")[1] == collection[-1]
    assert seen == {"collection-1": {"THP1", "MCF7", "PBMC"}, "collection-2": {"THP1", "MCF7", "MB231"}}
    assert len(set(made.groups)) == len(made.groups) == 100
    assert min(np.bincount(made.class_index)) >= 20
    rows = draw_parameters(np.arange(8000), 2)
    np.testing.assert_array_equal(made.class_index[rows[:, F.recording].astype(int)], rows[:, F.class_index])


def test_sizes_stay_in_the_papers_range_and_reach_its_ends():
    rows = draw_parameters(np.arange(100_000), 0)
    height, width = rows[:, F.height], rows[:, F.width]
    assert (height.min(), width.min()) == cell_classes.MIN_SIZE
    assert (height.max(), width.max()) == cell_classes.MAX_SIZE
    for row in rows[[height.argmin(), height.argmax(), width.argmin(), width.argmax()]]:
        image = draw_cell(row)
        assert image.shape == (row[F.height], row[F.width])
        assert image.std() > 3


def test_defects_come_at_the_asked_share_in_equal_parts():
    kinds = np.bincount(draw_parameters(np.arange(20_000), 6, 0.05)[:, F.defect].astype(int), minlength=6)
    assert kinds[1:].sum() == pytest.approx(1000, abs=4 * 31)  # 4 standard deviations
    assert kinds[1:] == pytest.approx(200, abs=4 * 14)


def test_each_defect_looks_like_itself():
    rows = draw_parameters(np.arange(400), 8, 1.0)
    for relief in (True, False):
        for kind in range(1, 6):
            row = rows[(rows[:, F.defect] == kind) & (rows[:, F.relief] == relief)][0]
            good = row.copy()
            good[F.defect] = 0
            blank = row.copy()
            blank[F.defect] = 1
            spoiled, plain, nothing = (draw_cell(each).astype(float) for each in (row, good, blank))
            contrast, whole = abs(spoiled - nothing), abs(plain - nothing)
            name = DEFECTS[kind]
            if name == "empty":
                assert contrast.max() == 0
            elif name == "cut":
                edge = np.concatenate((contrast[0], contrast[-1], contrast[:, 0], contrast[:, -1]))
                assert edge.max() > 25
            elif name == "defocused":
                assert abs(np.diff(contrast, axis=1)).max() < 0.5 * abs(np.diff(whole, axis=1)).max()
            elif name == "ghost":
                assert 2 < contrast.max() < 0.35 * whole.max()
            else:
                assert 1.4 * whole.sum() < contrast.sum() < 2.8 * whole.sum()


def test_overlap_is_what_the_text_says():
    """A linear discriminant on the true parameters, for each collection, on recordings of other seeds: 98 %."""

    def features(rows):
        logs = np.log(rows[:, [F.half_width, F.half_height, F.irregularity, F.granularity]])
        return np.hstack([logs, rows[:, [F.nucleus_ratio, F.nucleus_contrast, F.density, F.rim_width]]])

    train = draw_parameters(np.arange(30_000), 11, 0.0)
    right, total = 0, 0
    for seed in range(4):
        test = draw_parameters(np.arange(8000), seed, 0.0)
        for relief in (0, 1):
            known, asked = (features(rows[rows[:, F.relief] == relief]) for rows in (train, test))
            label, truth = (rows[rows[:, F.relief] == relief][:, F.class_index] for rows in (train, test))
            classes = np.unique(label)
            means = np.stack([known[label == k].mean(0) for k in classes])
            spread = np.cov((known - means[np.searchsorted(classes, label)]).T)
            weights = np.linalg.solve(spread, means.T)
            prior = np.log([np.mean(label == k) for k in classes])
            scores = asked @ weights - 0.5 * np.einsum("kd,dk->k", means, weights) + prior
            right += int((classes[scores.argmax(1)] == truth).sum())
            total += len(truth)
    assert right / total == pytest.approx(0.981, abs=0.006)


def test_background_tells_the_collection_not_the_class():
    rows = draw_parameters(np.arange(30_000), 12, 0.0)
    for relief, names in ((1, ("THP1", "PBMC")), (0, ("THP1", "MCF7", "MB231"))):
        levels = [of_class(rows, name, bool(relief))[:, F.background] for name in names]
        spread = np.concatenate(levels).std()
        assert np.ptp([values.mean() for values in levels]) < spread
    assert of_class(rows, "THP1", True)[:, F.background].max() < of_class(rows, "THP1", False)[:, F.background].min()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0], -1), "seed must be"),
        (([0], 0, 1.5), "defects must be"),
        (([-1], 0), "indices must be"),
        (([[0]], 0), "indices must be"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        draw_parameters(*arguments)
