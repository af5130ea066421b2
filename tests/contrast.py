"""How far a colour stands out from its ground."""

import numpy as np


def contrast(colour: str, ground: str) -> float:
    """The contrast ratio of two sRGB colours, 1 to 21. Source: W3C, "Web Content Accessibility Guidelines 2.1" (2018)."""
    dark, light = sorted(map(_luminance, (colour, ground)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
