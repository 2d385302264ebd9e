"""Image quality of cells: physical features, a score, reasons and verdicts."""
