"""OpenAI-compatible server with continuous batching, and a web page for chats."""
