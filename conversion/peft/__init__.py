"""Hugging Face PEFT adapters to ours and back."""
