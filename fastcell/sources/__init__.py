"""Files of instruments and laboratories, listed and read cell by cell; one module for each format."""
