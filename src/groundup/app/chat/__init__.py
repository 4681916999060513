"""Chat in a terminal, and parts that the server shares."""
