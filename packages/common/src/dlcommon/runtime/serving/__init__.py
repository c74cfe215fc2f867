"""One process, one port: the REST API and the demo page of a capstone, on ONNX Runtime, without torch."""
