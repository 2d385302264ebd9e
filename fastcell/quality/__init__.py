"""Which cells are worth keeping: physical features, a score, reasons, verdicts."""
