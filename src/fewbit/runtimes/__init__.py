"""Runtimes that execute exported models: run, time, memory, kernels used."""
