"""scikit-learn estimators on disk: saved estimators, and runs of ``fastcell fit`` opened as estimators."""
