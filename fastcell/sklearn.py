"""Former place of :class:`fastcell.training.estimator.CellClassifier`; pickles name it."""
