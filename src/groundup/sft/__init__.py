"""Base model and chats to an SFT model."""
