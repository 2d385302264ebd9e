"""Search for copies of a cell: exact copies, and near copies by image registration."""
