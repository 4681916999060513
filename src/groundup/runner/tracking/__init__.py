"""A run's history: written to a spool in the work dir, delivered to MLflow by a process of its own."""
