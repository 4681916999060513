"""Probes of values: small sets, written for this project, measured before and after alignment."""
