"""Search for copies of a cell: exact ones, and near ones by registration."""
