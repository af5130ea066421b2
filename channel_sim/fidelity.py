"""How near a restored picture or sound is to the one that was sent: PSNR, SSIM, MS-SSIM, SI-SDR.

Every number is finite: a perfect restoration stands at the cap, so that means and paired differences exist.
"""

from __future__ import annotations

import numpy as np

PEAK = 255.0
MOST_DB = 60.0
"""PSNR ends here, and SI-SDR at ± so many dB: an exact item has no error to divide by."""
MID_GREY = 128
WINDOW_PIXELS, _WINDOW_SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
FEWEST_MS_PIXELS = (WINDOW_PIXELS - 1) * 2 ** (len(_SCALE_WEIGHTS) - 1) + 1
"""161: the shortest side that still holds a window at the coarsest of the five scales, odd sides being rounded up."""


def silence(samples: np.ndarray) -> int:
    """The value of silence in a sound: 0, but 128 in one of 8 bits, uint8, which is in offset binary."""
    return 128 if samples.dtype == np.uint8 else 0


def psnr_db(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error, peak 255, at most 60.

    >>> round(psnr_db(65.025), 6), psnr_db(0.0)
    (30.0, 60.0)
    """
    least = PEAK**2 * 10 ** (-MOST_DB / 10)
    return MOST_DB if mean_squared_error <= least else float(10 * np.log10(PEAK**2 / mean_squared_error))


def sdr_db(mean_squared_error: float) -> float:
    """Signal-to-distortion ratio in dB where the signal has unit variance, at most 60.

    >>> sdr_db(0.001), sdr_db(0.0)
    (30.0, 60.0)
    """
    return MOST_DB if mean_squared_error <= 10 ** (-MOST_DB / 10) else float(-10 * np.log10(mean_squared_error))


def squared_error(sent: np.ndarray, restored: np.ndarray) -> int:
    """Σ (sent - restored)² over all samples of two uint8 arrays of one shape."""
    return int(np.sum((sent.astype(np.int64) - restored.astype(np.int64)) ** 2))


def si_sdr_db(sent: np.ndarray, restored: np.ndarray) -> float | None:
    """Scale-invariant signal-to-distortion ratio in dB of two sounds [n] about 0, within ±60; no mean is taken off.

    The restored sound is measured against its projection on the one that was sent. Restored silence has nothing of it and
    counts -60; None where silence was sent, which no projection can be taken on.

    Source: J. Le Roux, S. Wisdom, H. Erdogan, J. R. Hershey, "SDR - half-baked or well done?", ICASSP 2019, eq. 3.
    """
    s, estimate = sent.astype(np.float64), restored.astype(np.float64)
    energy = float(np.sum(s * s))  # not a dot product: its last bit would depend on the number of BLAS threads
    if not energy:
        return None
    target = np.sum(s * estimate) / energy * s
    signal, distortion = float(np.sum(target**2)), float(np.sum((target - estimate) ** 2))
    most = 10 ** (MOST_DB / 10)
    if signal <= distortion / most:
        return -MOST_DB
    return MOST_DB if distortion <= signal / most else float(10 * np.log10(signal / distortion))


def ssim(sent: np.ndarray, restored: np.ndarray) -> float | None:
    """Structural similarity of two uint8 images [H, W, C], each colour component by itself and then the mean; None below 11 pixels.

    Gaussian window of 11 x 11, sigma 1.5, K1 = .01, K2 = .03, peak 255, population moments; the mean is over the windows that
    lie inside the image. scikit-image gives the same with gaussian_weights=True, sigma=1.5, use_sample_covariance=False.

    Source: Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: from error visibility to structural
    similarity", IEEE Trans. Image Process. 13 (2004), eq. 12 to 17.
    """
    if min(sent.shape[:2]) < WINDOW_PIXELS:
        return None
    return float(np.mean(_similarities(sent.astype(np.float64), restored.astype(np.float64))[0]))


def ms_ssim(sent: np.ndarray, restored: np.ndarray) -> float | None:
    """SSIM over five scales of two uint8 images [H, W, C], each colour component by itself and then the mean.

    None where a side is below 161 pixels. Between scales 2 x 2 blocks are averaged, an odd last row or column counting twice. A
    scale whose mean similarity is negative counts 0: a fractional power of it does not exist.

    Source: Z. Wang, E. P. Simoncelli, A. C. Bovik, "Multi-scale structural similarity for image quality assessment", Asilomar
    Conf. Signals, Systems and Computers 2003, eq. 7 and section 3.2.
    """
    if min(sent.shape[:2]) < FEWEST_MS_PIXELS:
        return None
    a, b = sent.astype(np.float64), restored.astype(np.float64)
    product = np.ones(a.shape[2])
    for scale, weight in enumerate(_SCALE_WEIGHTS, start=1):
        whole, structure = _similarities(a, b)
        product *= np.maximum(whole if scale == len(_SCALE_WEIGHTS) else structure, 0) ** weight
        a, b = _halved(a), _halved(b)
    return float(np.mean(product))


def _similarities(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean SSIM, and mean of its contrast and structure alone, of each colour component, float64 [C] each."""
    c1, c2 = (_K1 * PEAK) ** 2, (_K2 * PEAK) ** 2
    mean_a, mean_b = _windowed(a), _windowed(b)
    both = mean_a * mean_b
    squares = mean_a**2 + mean_b**2
    covariance = _windowed(a * b) - both
    variances = _windowed(a * a + b * b) - squares
    structure = (2 * covariance + c2) / (variances + c2)  # [H - 10, W - 10, C]
    return np.mean((2 * both + c1) / (squares + c1) * structure, axis=(0, 1)), np.mean(structure, axis=(0, 1))


def _windowed(image: np.ndarray) -> np.ndarray:
    """Gaussian means over the windows inside the image, float64 [H - 10, W - 10, C] from [H, W, C]."""
    offsets = np.arange(WINDOW_PIXELS) - WINDOW_PIXELS // 2
    weights = np.exp(-0.5 * (offsets / _WINDOW_SIGMA) ** 2)
    weights /= weights.sum()
    height, width = (side - WINDOW_PIXELS + 1 for side in image.shape[:2])
    rows = sum(weight * image[k:k + height] for k, weight in enumerate(weights))
    return np.asarray(sum(weight * rows[:, k:k + width] for k, weight in enumerate(weights)))


def _halved(image: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 blocks, float64 [ceil(H / 2), ceil(W / 2), C]."""
    even = np.pad(image, [(0, side % 2) for side in image.shape[:2]] + [(0, 0)], mode="edge")
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
