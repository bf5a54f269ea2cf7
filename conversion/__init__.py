"""Models and adapters of other formats: GGUF to MLX, and Hugging Face PEFT's adapters to ours and back."""
