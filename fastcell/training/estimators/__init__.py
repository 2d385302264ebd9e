"""Estimators of scikit-learn on disk: saved ones, and runs of ``fastcell fit`` opened as estimators."""
