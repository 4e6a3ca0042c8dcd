"""The machinery of a search: a store that survives anything, work in processes of its own, budgets and choices."""
