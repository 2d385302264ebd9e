"""From a trained network and cells to class probabilities."""
