"""Load batches of normalised images from a view of a data set."""
