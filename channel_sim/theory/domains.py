"""What the arguments of a closed form may be, and dB as ratios."""

from __future__ import annotations

from channel_sim.checks import require


def linear(decibel: float) -> float:
    """10^(dB / 10); -inf dB is 0. Refuses what is no number, and above 300 dB."""
    require(decibel <= 300, f"a value in dB must be a number <= 300, got {decibel}")
    return float(10 ** (decibel / 10))


def positive_ratio(name: str, decibel: float) -> float:
    """10^(dB / 10) of what is neither nothing nor all, -100 to 300 dB."""
    require(-100 <= decibel <= 300, f"{name} must lie in [-100, 300] dB, got {decibel}")
    return linear(decibel)


def require_probability(name: str, value: float) -> None:
    """Refuse what lies outside [0, 1]."""
    require(0 <= value <= 1, f"{name} must lie in [0, 1], got {value}")


def require_at_least(name: str, least: float, value: float) -> None:
    """Refuse what lies below `least`, and what is not a number."""
    require(value >= least, f"{name} must be >= {least:g}, got {value}")


def require_code(n: int, k: int) -> None:
    """Refuse a code of no message, or of one longer than its words."""
    require(1 <= k <= n, f"k must lie in 1 to n={n}, got {k}")


def amplitude_levels(order: int) -> int:
    """Amplitudes of each dimension that carries one: 2 for BPSK (order 2), the root of the order for square QAM."""
    levels = 2 if order == 2 else round(max(order, 0) ** 0.5)
    square_of_power = levels >= 2 and levels & (levels - 1) == 0 and levels**2 == order
    require(order == 2 or square_of_power, f"order must be 2 (BPSK) or a power of 4 (square QAM: 4, 16, 64, 256, ...), got {order}")
    return levels
