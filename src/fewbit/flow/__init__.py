"""Jobs from beginning to end: what the command and the Python functions call."""
