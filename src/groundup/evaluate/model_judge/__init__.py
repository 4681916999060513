"""A judge by any causal language model: log p(reply | conversation) less its mean given other conversations."""
