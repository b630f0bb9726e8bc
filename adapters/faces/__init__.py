"""Faces: found by a pack of ONNX files, aligned, and turned into the vector that says who it is."""
