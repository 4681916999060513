"""Fetch an open model: the only code that downloads."""
