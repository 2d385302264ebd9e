"""Tables of predictions: gathered, saved, counted, and written for other programs."""
