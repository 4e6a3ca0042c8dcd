"""Contract suites that every runtime, range estimator and target must pass; inherit from them in a test module."""
