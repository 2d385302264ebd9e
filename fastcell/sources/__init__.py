"""List and read the cells in files of instruments and laboratories; one module per format."""
