"""The composition root: the only place that builds one thing from another."""
