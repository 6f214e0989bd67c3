"""offhook's own API: one file a family of resources, each with its endpoints."""
