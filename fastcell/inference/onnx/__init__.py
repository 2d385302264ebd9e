"""A classifier as one ONNX file that takes raw cells."""
