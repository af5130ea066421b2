"""Generative models: one predictor for coding and for restoring."""
