"""The audit as a whole: what is planted is found, and nothing else."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from fastcell.audit.collect import audit
from fastcell.audit.findings import ALARMS
from fastcell.errors import ArgumentError
from fastcell.packing.pack import pack
from fastcell.splits.copies.exact import NearFacts, exact_sets


def verdicts(found):
    return {finding.key: finding.verdict for finding in found.findings}


def run(manifest, **options):
    return audit(manifest, permutations=200, jobs=1, **options)


def test_a_clean_set_raises_nothing(make_audit_set):
    found = run(make_audit_set())
    assert not set(ALARMS) & set(verdicts(found).values())
    assert verdicts(found)["class_from_background"] == "ok"
    assert verdicts(found)["drift"] == "ok"


def test_a_planted_background_is_found_and_named(make_audit_set):
    found = run(make_audit_set(background=8))
    (background,) = [finding for finding in found.findings if finding.key == "class_from_background"]
    assert background.verdict == "problem"
    assert background.result.number > 0.85
    assert "level" in background.says["problem"]
    assert verdicts(found)["class_from_intensity"] == "problem"
    assert verdicts(found)["class_from_file"] == "ok"


def test_planted_drift_is_found(make_audit_set):
    found = run(make_audit_set(drift=8))
    assert verdicts(found)["drift"] == "problem"
    assert verdicts(found)["class_from_background"] == "ok"


def test_class_and_group_that_cannot_be_told_apart(make_audit_set):
    said = verdicts(run(make_audit_set(only=True, background=8)))
    assert said["class_by_group"] == "problem"
    assert said["class_from_background"] == "cannot tell"
    assert said["group_from_image"] == "cannot tell"


def test_no_labels_no_groups_raw_blocks(make_audit_set):
    said = verdicts(run(make_audit_set(labelled=False)))
    assert said["class_from_background"] == said["label_noise"] == said["class_by_group"] == "skipped"
    assert said["group_from_image"] == "ok"
    said = verdicts(run(make_audit_set(grouped=False, layout="block", background=8)))
    assert said["class_from_background"] == "problem"
    assert said["group_from_image"] == "skipped"
    assert said["class_from_file"] == "ok"


def test_tiny_sets(make_audit_set):
    said = verdicts(run(make_audit_set(8)))
    assert "problem" not in said.values()
    assert said["drift"] == said["label_noise"] == "skipped"


def test_the_sample_is_bounded_and_the_same_again(make_audit_set):
    manifest = make_audit_set(400)
    found, again = run(manifest, most_cells=120), run(manifest, most_cells=120)
    assert len(found.sample) <= 120
    assert (found.sample.rows == again.sample.rows).all()
    assert [finding.result for finding in found.findings if finding.result] == [
        finding.result for finding in again.findings if finding.result
    ]


def test_labels_that_nothing_tells(make_audit_set):
    manifest = make_audit_set(240)
    table = manifest.table
    mixed = np.random.default_rng(3).permutation(np.array(manifest.column("class").tolist()))
    place = table.schema.get_field_index("class")
    mixed_set = replace(manifest, table=table.set_column(place, "class", pa.array(mixed.tolist(), pa.string())))
    (labels,) = [finding for finding in run(mixed_set).findings if finding.key == "label_noise"]
    assert labels.verdict == "cannot tell"
    assert "hardly separates the classes" in labels.says["else"]


def test_an_earlier_search_that_found_nothing_counts(make_audit_set):
    manifest = make_audit_set(60)
    replace(exact_sets(manifest, jobs=1), near=NearFacts(0, 12, 0.99, 0.9, ())).write(manifest)
    (copies,) = [finding for finding in run(manifest).findings if finding.key == "duplicates"]
    assert copies.says["else"] == "0 cells in 0 sets of copies."


def test_numbers_out_of_their_rule(make_audit_set):
    with pytest.raises(ArgumentError, match="--permutations must be a number >= 20, got 3"):
        audit(make_audit_set(20), permutations=3)


@pytest.mark.slow
def test_real_cells(real_data, tmp_path):
    atom = run(pack(real_data / "atom-samples", tmp_path / "atom", pattern="{class}_{name}", jobs=1))
    assert verdicts(atom)["class_from_background"] == "problem"
    donors = run(pack(real_data / "tcell", tmp_path / "tcell", pattern="{group}/{class}/{name}", jobs=1))
    (told,) = [finding for finding in donors.findings if finding.key == "group_from_image"]
    assert told.verdict == "warning"
    assert told.result.number > 0.4 > told.result.chance_high
    assert "donor_2" in told.says["warning"]
