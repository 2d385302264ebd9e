"""Tables that users write: CSV of any dialect, and Parquet."""
