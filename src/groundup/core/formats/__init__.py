"""Files that pass between stages: rows, token shards, chats."""
