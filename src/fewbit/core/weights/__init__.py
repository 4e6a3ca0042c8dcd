"""Kernels that turn weights into integers."""
