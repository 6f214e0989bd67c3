"""The application: joins signalling, media and the provider into a call. Knows no SQL, no HTTP, no configuration."""
