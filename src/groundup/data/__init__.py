"""Raw sources to text, chats, preferences, prompts, evaluation sets, tokenizer and shards."""
