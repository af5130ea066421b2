"""How it is recovered: one file an inference rule."""
