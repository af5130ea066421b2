"""Training, from data to weights that ship: what `channel-sim train` does."""
