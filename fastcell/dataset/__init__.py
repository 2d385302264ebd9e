"""A packed data set as its readers see it: manifest, sidecars, shards, encodings, integrity."""
