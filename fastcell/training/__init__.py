"""Training runs: recipe, trainer, fit, evaluation, resume, and the scikit-learn estimator."""
