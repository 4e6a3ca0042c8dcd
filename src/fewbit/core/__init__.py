"""Quantization numerics: arrays in, arrays out."""
