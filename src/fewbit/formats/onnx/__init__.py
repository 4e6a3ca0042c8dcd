"""The ONNX door: a plan lowered to QuantizeLinear and DequantizeLinear nodes."""
