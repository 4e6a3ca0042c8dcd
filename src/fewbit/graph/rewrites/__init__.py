"""Changes of a normalized graph that leave what it computes as it is, and make it easier to quantize.

Unlike the rules of `fewbit.graph.rules` they are chosen for a plan, and carry numbers.
"""
