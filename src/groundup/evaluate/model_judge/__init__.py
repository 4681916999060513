"""A judge by any causal language model: log p(reply | conversation) - log p(reply)."""
