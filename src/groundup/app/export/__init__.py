"""Models for other programs: one GGUF file, a plain Hugging Face directory, or a LoRA adapter."""
