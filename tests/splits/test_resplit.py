"""`fastcell split`: groupings, names, refusals with a way out, and splits that readers of both layouts accept."""

from collections.abc import Callable

import numpy as np
import pytest

from fastcell.dataset.manifest import Manifest
from fastcell.dataset.views import ViewConfig, select
from fastcell.errors import ArgumentError
from fastcell.packing.verify import verify
from fastcell.splits.copies.exact import Duplicates, NearFacts, read_duplicates
from fastcell.splits.make_splits import SplitOptions
from fastcell.splits.read_groups import read_grouping
from fastcell.splits.resplit import resplit

Make = Callable[..., Manifest]
TWO = SplitOptions((0.8, 0.0, 0.2))


def groups_csv(folder, num, name="groups.csv"):
    path = folder / name
    path.write_text("cell_id,donor\n" + "".join(f"{cell},d{cell % 7}\n" for cell in range(num)))
    return path


@pytest.mark.parametrize("layout", ["cell", "block"])
def test_table_groups_stay_whole_in_split_and_folds(make_dataset, tmp_path, layout):
    manifest = make_dataset(140, layout=layout)
    by = f"{groups_csv(tmp_path, 140)}:donor"
    made = resplit(manifest.path, SplitOptions((0.8, 0.0, 0.2), folds="groups"), group_by=by, near=False)
    assert list(made.splits) == ["by-donor", *(f"by-donor-fold-{fold}" for fold in range(7))]
    again = Manifest.open(manifest.path)
    donor = read_grouping(again, by).groups[:]
    for name, sides in made.splits.items():
        assert (again.split_codes(name) == sides).all()
        assert all(len(set(sides[donor == one].tolist())) == 1 for one in set(donor.tolist()))
    assert (again.split("by-donor-fold-3") == "test").tolist() == (donor == "d3").tolist()
    assert verify(manifest.path).whole
    view = select(again, ViewConfig("train", "by-donor"))
    assert view.rows.tolist() == np.flatnonzero(again.split("by-donor") == "train").tolist()


def test_splits_are_not_overwritten_unasked(make_dataset, tmp_path):
    manifest = make_dataset(140)
    by = f"{groups_csv(tmp_path, 140)}:donor"
    resplit(manifest.path, SplitOptions(folds=5), group_by=by, name="mine", near=False)
    with pytest.raises(ArgumentError, match="--name must be the name of a new split.*--force"):
        resplit(manifest.path, TWO, group_by=by, name="mine", near=False)
    resplit(manifest.path, TWO, group_by=by, name="mine", near=False, force=True)
    assert [name for name in manifest.split_names() if name.startswith("mine")] == ["mine"]  # no fold of the old one


@pytest.mark.parametrize("name", ["../out", "a/b", "", ".hidden", "x" * 81])
def test_names_stay_inside_the_folder(make_dataset, name):
    with pytest.raises(ArgumentError, match="--name must be"):
        resplit(make_dataset(20).path, name=name, near=False)


def test_a_class_with_too_few_groups_is_refused_with_a_way_out(make_dataset, tmp_path):
    manifest = make_dataset(60)  # class by cell_id % 3
    path = tmp_path / "few.csv"
    path.write_text("cell_id,donor\n" + "".join(f"{i},{'x' if i % 3 == 2 else f'd{i % 9}'}\n" for i in range(60)))
    with pytest.raises(ArgumentError, match="C is from donor x only.*--allow-absent"):
        resplit(manifest.path, group_by=f"{path}:donor", near=False)
    made = resplit(manifest.path, group_by=f"{path}:donor", near=False, allow_absent=True)
    assert set(made.splits["by-donor"].tolist()) == {0, 1, 2}


def write_near(manifest, cells):
    """The sidecar of a search that has found one set of near copies, none of them exact."""
    num = len(cells)
    kinds, alike = np.full(num, "near"), np.full(num, 0.995, np.float32)
    facts = NearFacts(0, num, 0.99, 0.9, ())
    made = Duplicates(cells, np.zeros(num, np.int64), kinds, alike, np.zeros(num, bool), len(manifest), 0, facts)
    made.write(manifest)


def test_many_near_copies_are_kept_together_only_when_asked(make_dataset):
    manifest = make_dataset(140)  # class by cell_id % 3
    cells = np.arange(0, 90, 3)
    write_near(manifest, cells)
    made = resplit(manifest.path, TWO, name="loose")
    assert made.apart == (0,)
    assert len(set(made.splits["loose"][cells].tolist())) == 2
    merged = resplit(manifest.path, TWO, name="merged", merge_large=True)
    assert merged.apart == ()
    assert len(set(merged.splits["merged"][cells].tolist())) == 1


def test_exact_copies_alone_do_not_replace_what_a_longer_search_found(make_dataset):
    manifest = make_dataset(60)
    write_near(manifest, np.array([0, 3]))
    resplit(manifest.path, TWO, name="quick", near=False)
    there = read_duplicates(manifest)
    assert there is not None
    assert there.cell_ids.tolist() == [0, 3]
    assert there.near is not None


@pytest.mark.slow
def test_donors_of_the_t_cells_are_never_on_two_sides(real_data, tmp_path):
    from fastcell.packing.pack import pack

    manifest = pack(real_data / "tcell", tmp_path / "tcell", pattern="{group}/{class}/{name}", jobs=1)
    made = resplit(manifest.path, SplitOptions((0.8, 0.0, 0.2), folds="groups"))
    assert len(made.splits) == 5
    assert len(made.duplicates) == 0
    assert manifest.groups is not None
    for sides in made.splits.values():
        assert all(
            len(set(sides[manifest.groups[:] == donor].tolist())) == 1 for donor in set(manifest.groups[:].tolist())
        )


@pytest.mark.slow
def test_jurkat_cells_raise_no_alarm(real_data, tmp_path):
    from fastcell.packing.pack import pack

    made = resplit(pack(real_data / "jurkat", tmp_path / "jurkat", jobs=1).path, SplitOptions(folds=5))
    assert len(made.duplicates) == 0
