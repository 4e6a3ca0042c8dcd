"""Metrics, comparisons of outputs, and the latency protocol."""
