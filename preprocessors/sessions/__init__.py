"""What every ONNX network of the pack is run with: onnxruntime, its providers, its place in the host."""
