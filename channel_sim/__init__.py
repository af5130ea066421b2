"""What flows through the chain, and what hurts it."""
