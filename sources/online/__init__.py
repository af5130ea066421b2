"""Learning while coding: decisions, the counts and rules that predict them, their mixture, and the coder around it."""

from sources.online.coder import Online

__all__ = ["Online"]
