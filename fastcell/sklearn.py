"""Place of the estimator that pickles name; it is `fastcell.training.estimator`."""

from fastcell.training.estimator import CellClassifier  # noqa: F401
