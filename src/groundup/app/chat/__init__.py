"""Chat in a terminal, and what it shares with the server."""
