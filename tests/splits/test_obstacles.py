"""Splits whose scores cannot answer: what is an obstacle, what is none, and what every command says of it."""

import json
import tracemalloc

import cv2
import numpy as np
import pytest

from fastcell.dataset.rows.cell_groups import CellGroups
from fastcell.errors import ArgumentError
from fastcell.packing.pack import pack
from fastcell.splits.make_splits import SplitOptions
from fastcell.splits.obstacles import cautions, find_obstacles, refuse_obstacles, split_obstacles
from fastcell.splits.resplit import resplit

CLASSES = ["A", "B", "C"]
PATTERN = "{class}/{group}_{name}"


def cells(*rows):
    """Labels, subsets and groups of cells given as (class, group, subset, number)."""
    labels = np.concatenate([np.full(num, CLASSES.index(name) if name else -1) for name, _, _, num in rows])
    subsets = np.concatenate([np.full(num, subset, "<U5") for _, _, subset, num in rows])
    groups = CellGroups.of_names([group for _, group, _, num in rows for _ in range(num)], len(labels))
    return labels, subsets, {"group": groups} if groups.names else {}


def kinds(*rows, **options):
    labels, subsets, origins = cells(*rows)
    return [one.kind for one in find_obstacles(labels, CLASSES, [subsets], origins, **options)]


ALIKE = [("A", "r1", "train", 6), ("A", "r1", "test", 3), ("B", "r2", "train", 6), ("B", "r2", "test", 3)]
NESTED = [
    ("A", "r1", "train", 6), ("A", "r2", "train", 6), ("A", "r3", "test", 3),
    ("B", "r4", "train", 6), ("B", "r5", "train", 6), ("B", "r6", "test", 3),
]  # fmt: skip
KNOWN = [
    ("A", "r1", "train", 6), ("A", "r1", "test", 2), ("A", "r2", "train", 6), ("A", "r2", "test", 2),
    ("B", "r3", "train", 6), ("B", "r3", "test", 2), ("B", "r4", "train", 6), ("B", "r4", "test", 2),
]  # fmt: skip

LARGE = [("A", "r1", "train", 40), ("B", "r2", "train", 40)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (ALIKE, ["alike"]),
        (ALIKE[:3], ["alike", "absent"]),
        (NESTED, []),  # two groups of each class in training, a new one in the test
        (KNOWN, ["seen"]),
        ([*KNOWN, ("A", "r9", "test", 1)], ["seen"]),  # B alone is of known groups
        ([*KNOWN, ("A", "r3", "train", 1), ("B", "r1", "train", 1)], []),  # r1 and r3 hold both classes
        ([("A", "r1", "train", 5), ("B", "r1", "train", 5), ("A", "r2", "test", 5), ("B", "r2", "test", 5)], []),
        ([*LARGE, ("A", "r2", "train", 2)], ["alike"]),  # 2 stray cells
        ([*LARGE, ("A", "r2", "train", 3)], []),  # 7 % of r2
        ([*LARGE, ("C", "r1", "train", 1), ("C", "r2", "train", 1)], ["alike"]),
        ([("A", "r1", "train", 960), ("B", "r1", "train", 40)], []),  # a rare class beside a frequent one
        ([("A", "r1", "train", 96), ("B", "r1", "train", 4), ("A", "r1", "test", 48), ("B", "r1", "test", 2)], []),
        ([*((name, group, part, 20 * num) for name, group, part, num in KNOWN), ("B", "r1", "test", 1)], ["seen"]),
        ([*NESTED, ("C", "r7", "train", 5)], ["alike", "absent"]),  # a class in one group only
        ([("A", "", "train", 5), ("B", "", "train", 5), ("A", "", "test", 5)], ["absent"]),
        ([("A", "r1", "test", 5), ("B", "r2", "test", 5)], []),  # 0/0/100: all parts but one are empty on purpose
        ([("", "r1", "train", 5), ("", "r2", "test", 5)], []),
        ([("A", "r1", "train", 5), ("A", "r2", "test", 5)], []),  # one class: nothing to tell apart
        ([("A", "r1", "", 5), ("B", "r2", "", 5)], []),
    ],
)
def test_kinds_of_obstacles(rows, expected):
    assert kinds(*rows) == expected


def test_an_obstacle_names_classes_and_groups_and_folds_are_pooled():
    labels, subsets, origins = cells(*ALIKE)
    (found,) = find_obstacles(labels, CLASSES, [subsets], origins)
    assert found.text == (
        "class and group cannot be told apart: A is from group r1 only, B is from group r2 only, "
        "and these groups hold no other class"
    )
    with pytest.raises(
        ArgumentError, match=r"split 'x'.*A is from group r1 only.*several classes in a group.*--allow-absent"
    ):
        refuse_obstacles([found], "split 'x'")
    assert cautions([found])[0].startswith("Caution: class and group cannot be told apart: A is from group r1 only")
    labels, _, origins = cells(*NESTED)
    folds = []
    for group in range(6):  # each group tested once: a fold tests one class alone, all of them both
        folds.append(np.where(origins["group"].codes == group, "test", "train"))
    assert find_obstacles(labels, CLASSES, folds, origins) == []
    assert [one.kind for one in find_obstacles(labels, CLASSES, folds[:1], origins)] == ["absent"]
    assert kinds(*KNOWN, torn_on_purpose=True) == []


def test_stray_cells_are_counted_once():
    labels, subsets, origins = cells(*((name, group, part, 20 * num) for name, group, part, num in ALIKE))
    labels[0] = 1  # a cell of B in the recording of A
    (found,) = find_obstacles(labels, CLASSES, [subsets], origins)
    assert found.text.endswith("and these groups hold no other class, but for 1 stray cell")
    labels, subsets, origins = cells(*((name, group, part, 20 * num) for name, group, part, num in KNOWN))
    labels[np.flatnonzero(subsets == "test")[:2]] = 1
    (found,) = find_obstacles(labels, CLASSES, [subsets], origins)
    assert "its cells of class A, B are all from groups that hold no other class" in found.text
    assert found.text.endswith("are in the train subset too, but for 2 stray cells")


def test_many_groups_take_little_memory():
    """A table of 1,000 classes by 100,000 groups would take 800 MB; the pairs that occur are 100,000."""
    labels = np.arange(100_000) % 1_000
    groups = CellGroups.of_names([f"g{number}" for number in range(100_000)], 100_000)
    tracemalloc.start()
    found = find_obstacles(labels, [f"c{k}" for k in range(1_000)], [np.full(100_000, "train")], {"group": groups})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == []
    assert peak < 60e6


def test_collections_are_recordings_too():
    labels, subsets, origins = cells(*ALIKE)
    (found,) = find_obstacles(labels, CLASSES, [subsets], {"collection": origins["group"]})
    assert found.origin == "collection"
    assert "A is from collection r1 only" in found.text


@pytest.fixture
def recordings(tmp_path):
    """Function that writes cells of {class: recordings} into a folder CLASS/RECORDING_NUMBER.png."""

    def write(num=12, **spec):
        rng = np.random.default_rng(3)
        for name, groups in spec.items():
            (tmp_path / "src" / name).mkdir(parents=True, exist_ok=True)
            for group in groups:
                for number in range(num):
                    image = rng.integers(80, 120 if name == "A" else 200, (12, 13)).astype(np.uint8)
                    cv2.imwrite(str(tmp_path / "src" / name / f"{group}_{number:02d}.png"), image)
        return tmp_path / "src"

    return write


def test_pack_refuses_recordings_of_one_class_before_it_reads_them(recordings, tmp_path):
    src, out = recordings(A=["r1"], B=["r2"]), tmp_path / "set"
    for split in (SplitOptions(), SplitOptions((0.5, 0.0, 0.5)), SplitOptions((0.8, 0.0, 0.2), folds=2)):
        with pytest.raises(ArgumentError, match="A is from group r1 only, B is from group r2 only"):
            pack(src, out, pattern=PATTERN, split=split, jobs=1)
    with pytest.raises(ArgumentError, match="A is from collection r1 only"):
        pack(src, out, pattern="{class}/{collection}_{name}", jobs=1)
    assert not out.exists()
    pack(src, tmp_path / "test", pattern=PATTERN, split=SplitOptions((0.0, 0.0, 1.0)), jobs=1)
    pack(src, tmp_path / "none", pattern=PATTERN, split=SplitOptions(None), jobs=1)
    made = pack(src, out, pattern=PATTERN, split=SplitOptions((0.5, 0.0, 0.5)), allow_absent=True, jobs=1)
    assert [one.kind for one in split_obstacles(made, "default")] == ["alike", "absent", "absent"]


def test_fewer_subsets_are_advised_where_there_are_three():
    for more, advised in ([("A", "r5", "valid", 2), ("B", "r6", "valid", 2)], True), ([], False):
        labels, subsets, origins = cells(
            ("A", "r1", "train", 5), ("B", "r2", "train", 5), ("A", "r3", "test", 5), *more
        )
        found = find_obstacles(labels, CLASSES, [subsets], origins)
        with pytest.raises(ArgumentError, match="the test subset has no cell of class B") as told:
            refuse_obstacles([one for one in found if one.kind == "absent"], "split 'x'")
        assert ("--split 80/0/20" in str(told.value)) == advised


def test_what_a_refusal_advises_goes_on(recordings, tmp_path):
    """With fewer groups than subsets --allow-absent alone would end with another error."""
    src, out = recordings(A=["r1"], B=["r2"]), tmp_path / "set"
    few = "since 2 groups cannot fill 3 subsets"
    end = "a caution is then printed above every score"
    only = rf"--allow-absent continues only with --split none, {few} \(then fastcell split --group-by none\); {end}"
    with pytest.raises(ArgumentError, match=only):
        pack(src, out, pattern=PATTERN, jobs=1)
    with pytest.raises(ArgumentError, match=f"--allow-absent continues; {end}"):
        pack(src, out, pattern=PATTERN, split=SplitOptions((0.5, 0.0, 0.5)), jobs=1)
    pack(src, out, pattern=PATTERN, split=SplitOptions(None), jobs=1)
    with pytest.raises(ArgumentError, match=f"--allow-absent continues only with --group-by none, {few}; {end}"):
        resplit(out, near=False)
    with pytest.raises(ArgumentError, match=f"--allow-absent continues; {end}"):
        resplit(out, group_by="none", near=False)
    resplit(out, group_by="none", near=False, allow_absent=True)


def test_pack_puts_each_class_into_each_part_where_the_groups_allow_it(recordings, tmp_path):
    src = recordings(A=["r1", "r2", "r3"], B=["r4", "r5", "r6"])
    made = pack(src, tmp_path / "set", pattern=PATTERN, jobs=1)
    assert all(set(made.labels[made.split() == part]) == {0, 1} for part in ("train", "valid", "test"))
    with pytest.raises(
        ArgumentError, match="in the test subset: its cells of class A, B are all from groups .* train subset too"
    ):
        resplit(made.path, group_by="none", near=False)
    src = recordings(A=["r1", "r2", "r3"], C=["r7", "r8"])
    with pytest.raises(ArgumentError, match="subset has no cell of class C"):
        pack(src, tmp_path / "three", pattern=PATTERN, jobs=1)


def test_split_refuses_by_the_groups_that_are_asked_for(make_dataset, tmp_path):
    manifest = make_dataset(60)  # class by cell_id % 3
    path = tmp_path / "days.csv"
    path.write_text("cell_id,day\n" + "".join(f"{cell},d{cell % 3}\n" for cell in range(60)))
    with pytest.raises(ArgumentError, match="A is from day d0 only, B is from day d1 only, C is from day d2 only"):
        resplit(manifest.path, SplitOptions((0.8, 0.0, 0.2)), group_by=f"{path}:day", near=False)
    resplit(manifest.path, SplitOptions((0.0, 0.0, 1.0)), group_by=f"{path}:day", near=False)


@pytest.fixture
def alike_set(recordings, tmp_path):
    """Data set of one recording a class whose cells are split at random, so that each part has both classes."""
    pack(recordings(A=["r1"], B=["r2"]), tmp_path / "set", pattern=PATTERN, split=SplitOptions(None), jobs=1)
    options = SplitOptions((0.5, 0.0, 0.5))
    resplit(tmp_path / "set", options, group_by="none", name="default", near=False, allow_absent=True, force=True)
    return tmp_path / "set"


SAID = "class and group cannot be told apart: A is from group r1 only, B is from group r2 only"


def fit_words(data, runs):
    return [str(data), "--preset", "fast", "--data.image_size=16", "--trainer.max_epochs=1", f"--runs={runs}"]


def test_fit_and_compare_refuse_before_any_work(alike_set, tmp_path):
    from fastcell.cli.compare import main as compare
    from fastcell.cli.fit import main as fit

    with pytest.raises(ArgumentError, match=f"{SAID}.*--allow-absent"):
        fit(fit_words(alike_set, tmp_path / "runs"))
    assert not list((tmp_path / "runs").glob("*"))
    words = [str(alike_set), "--methods=knn", "--seeds=1", "--volumes=1", f"--out={tmp_path / 'study'}"]
    for more in ([], ["--splits", "default"], ["--splits", "random"], ["--study", "leakage"], ["--study", "loss"]):
        with pytest.raises(ArgumentError, match=f"{SAID}.*--allow-absent"):
            compare([*words, *more])
    assert not (tmp_path / "study").exists()


@pytest.mark.slow
def test_every_score_says_it_where_it_was_allowed(alike_set, tmp_path, capsys):
    from fastcell.cli.compare import main as compare
    from fastcell.cli.fit import main as fit
    from fastcell.cli.fit import run as lightning
    from fastcell.cli.report import main as report

    assert fit([*fit_words(alike_set, tmp_path / "runs"), "--allow-absent"]) == 0
    printed = capsys.readouterr().out
    assert printed.index(SAID) < printed.index("test subset, ")
    (run,) = (tmp_path / "runs").iterdir()
    assert SAID in json.loads((run / "metrics.json").read_text())["cautions"][0]
    assert lightning("test", [f"--ckpt_path={run}"]) == 0  # scores, and says so
    printed = capsys.readouterr().out
    assert printed.index(SAID) < printed.index("test subset, ")
    assert lightning("predict", [f"--ckpt_path={run}", f"--out={tmp_path / 'p.csv'}"]) == 0
    with pytest.raises(ArgumentError, match=f"{SAID}.*--allow-absent"):
        report([str(run), "--no-explain", "--cells", "4"])
    assert report([str(run), "--no-explain", "--cells", "4", "--allow-absent"]) == 0
    page = (run / "report.html").read_text()
    assert page.index(SAID) < page.index('class="lead"')
    assert page.count(SAID) >= 3  # head, scores, data card
    out = tmp_path / "study"
    words = ["--methods=knn", "--seeds=1", "--volumes=1", "--preset=fast", "--splits=default", f"--out={out}"]
    assert compare([str(alike_set), *words, "--allow-absent"]) == 0
    text = (out / "report.md").read_text()
    assert text.index(SAID) < text.index("| method |")
    with pytest.raises(ArgumentError, match=f"{SAID}.*--allow-absent"):
        report([str(out)])
    assert report([str(out), "--allow-absent"]) == 0
    assert SAID in (out / "report.html").read_text()
    assert "--allow-absent" in (out / "report.html").read_text()  # the command that repeats it
