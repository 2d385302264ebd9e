"""Assign cells to training, validation and test: by class and by group, with copies of a cell in one subset."""
