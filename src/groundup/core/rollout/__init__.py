"""Prompts, sampled replies and their scores."""
