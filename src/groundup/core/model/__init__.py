"""The Llama model: forward passes, generation, likelihood, scores."""
