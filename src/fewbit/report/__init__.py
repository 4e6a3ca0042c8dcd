"""Results as text: one file a result. A renderer takes the data that --json prints, so both say the same."""
