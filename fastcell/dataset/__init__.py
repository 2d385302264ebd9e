"""Read packed data sets: manifest, sidecar files, shards, image encodings and integrity checks."""
