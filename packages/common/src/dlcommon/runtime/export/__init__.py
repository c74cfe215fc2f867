"""From a trained torch module to a checked ONNX file."""
