"""PyTorch's import doors: modules, exported programs, TorchScript, and files of any of them. Extra: torch."""
