"""SFT model, reward model and prompts to an aligned model."""
