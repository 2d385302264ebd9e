"""From a view of a data set to batches of normalised images."""
