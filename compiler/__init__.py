"""From an ONNX model to a plan for the CKKS scheme."""
