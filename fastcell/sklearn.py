"""Former module of the estimator, which old pickles refer to; it is now `fastcell.training.estimator`."""

from fastcell.training.estimator import CellClassifier  # noqa: F401
