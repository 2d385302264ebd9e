"""Many rows of a manifest in little memory: mapped columns, sets of rows, class numbers of cells."""
