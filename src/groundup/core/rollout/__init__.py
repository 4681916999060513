"""Prompts, sampled replies and what they are worth."""
