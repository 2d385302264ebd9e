"""The result of a comparison is what its tables say at the largest volume."""

import pytest

ACCURACY = """\
scheme,method,volume,part,accuracy,std,low,high,balanced_accuracy,balanced_low,balanced_high,fit_s,predict_us,num_cells,num_seeds
folds,cnn,0.1,test,0.5,0.1,0.4,0.6,0.5,0.4,0.6,9,90,100,3
folds,cnn,1,train,0.99,0.01,0.98,1,0.99,0.98,1,30,150,80,3
folds,cnn,1,test,0.9,0.01,0.88,0.92,0.8,0.75,0.85,30,150,100,3
folds,knn,1,test,0.7,,0.66,0.74,0.6,0.55,0.65,2,20,100,3
"""
DIFFERENCES = """\
what,first,second,volume,value,low,high,num_cells,verdict
"folds, volume 0.1",CNN,kNN,0.1,0.1,0.05,0.15,100,may be chance (p = 0.2)
"folds, volume 1",CNN,kNN,1,0.2,0.15,0.25,100,CNN is better (p = 0.01)
schemes,"CNN, random","CNN, folds",1,0.03,0.01,0.05,100,cannot tell with 4 groups
"""


@pytest.fixture
def compare(program):
    return program("compare")


def test_scores_of_the_largest_volume(compare, tmp_path):
    (tmp_path / "accuracy.csv").write_text(ACCURACY)
    (tmp_path / "differences.csv").write_text(DIFFERENCES)
    cnn, knn = compare.read_scores(tmp_path)
    assert (cnn.method, cnn.gain, cnn.std, cnn.num_cells, cnn.num_seeds) == ("CNN", None, 0.01, 100, 3)
    assert cnn.accuracy == {"value": 0.9, "low": 0.88, "high": 0.92}
    assert cnn.balanced_accuracy == {"value": 0.8, "low": 0.75, "high": 0.85}
    assert (knn.method, knn.std, knn.fit_s, knn.predict_us) == ("kNN", None, 2, 20)
    assert knn.gain == {"value": 0.2, "low": 0.15, "high": 0.25, "verdict": "CNN is better (p = 0.01)"}
    assert cnn.other_splits == {"value": 0.03, "low": 0.01, "high": 0.05, "verdict": "cannot tell with 4 groups"}
    assert knn.other_splits is None


def test_what_the_intervals_are_by(compare, tmp_path):
    head = "part,by,num_units,note\ntrain,cell,9,\n"
    (tmp_path / "accuracy.csv").write_text(head + "test,group,6,\n")
    assert compare.describe_intervals(tmp_path) == "by group (6)"
    (tmp_path / "accuracy.csv").write_text(head + "test,group,1200,few\n")
    assert compare.describe_intervals(tmp_path) == "by group (1,200), few"
