"""A local page to view, sort, correct and label cells: tables, selection, thumbnails, marks, and suggestions."""
