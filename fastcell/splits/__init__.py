"""Which cell trains, validates and tests: by class, by group, with copies of a cell in one subset."""
