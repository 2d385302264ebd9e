"""What a person reads: scores with intervals, tables and figures."""
