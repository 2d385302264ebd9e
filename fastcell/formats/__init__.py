"""Writers of the files that other programs of the field read."""
