"""OpenAI-compatible server with continuous batching, and a web page to chat on."""
