"""A classifier as a folder for other people: weights, description and model card."""
