"""What is sent: items, tokens, models and coders."""
