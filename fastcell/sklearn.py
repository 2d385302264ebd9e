"""Former place of :class:`fastcell.training.estimator.CellClassifier`; pickles name it."""

from fastcell.training.estimator import CellClassifier as CellClassifier
