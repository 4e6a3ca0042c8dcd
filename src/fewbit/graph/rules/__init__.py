"""Graph rewrites, one a file.

Each module has `apply(hub) -> list[RuleOutcome]`: what it did, and what it declined and why.

The order in which they run is in `fewbit.graph.normalize`.
"""
