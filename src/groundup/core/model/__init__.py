"""Causal language models: forward passes, generation, likelihood, scores."""
