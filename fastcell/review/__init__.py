"""A local page to see, sort, correct and label cells: tables, selection, thumbnails, marks, and what to label next."""
