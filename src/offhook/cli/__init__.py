"""The command line: serve, call."""
