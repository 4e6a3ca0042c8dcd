"""`fewbit.auto`: the best quantized form of a model for a target, within what its user can tolerate, and the proof."""
