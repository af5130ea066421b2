"""DiffC of pictures with the denoiser that ships: on any number of threads, and what theory promises on photographs."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from channel_sim.keys import Key
from sources.diffusion.diffc_image import DiffcImage
from sources.images import Images
from tests.test_diffc_image import RULES, decoded, sent

KEY = Key(73)


def photographs(count: int) -> list[np.ndarray]:
    """uint8 [32, 32, 3]: parts of photographs that nothing was trained on."""
    source = Images(size=32, crop="tile", scale=0.25)
    chosen = np.linspace(0, source.num_items - 1, count).astype(int)
    return [np.asarray(item.content) for item in source.items(chosen, [KEY] * count)]


def test_the_shipped_denoiser_agrees_with_itself_on_any_number_of_threads():
    """Catches a stream that depends on threads, and ends of different precision: the checksums of all steps hold."""
    coded, picture = DiffcImage(check_bits=16, level=128), photographs(1)[0]
    with threadpool_limits(1):
        octets = sent(coded, picture)
    with threadpool_limits(2):
        assert np.array_equal(octets, sent(coded, picture))
        held = coded.heard(octets, picture.shape, KEY)
    assert np.all(held.known.reshape(32, 32, 3) == coded.denoiser.denoiser().prior.precisions(128))


@pytest.mark.slow
def test_the_shipped_denoiser_keeps_what_theory_promises():
    """Catches a flow that does not follow the network, and prefixes that do not pay: on photographs, with the shipped weights."""
    tiles, errors = photographs(8), dict[str, list[float]]()
    for number, picture in enumerate(tiles):
        key = KEY.child(number)
        octets = sent(DiffcImage(level=208), picture, key)
        rules: dict[str, tuple[str, int]] = {rule: (rule, octets.size) for rule in RULES}
        rules |= {f"{part} eighths": ("mean", octets.size * part // 8) for part in range(9)}
        for name, (rule, length) in rules.items():
            coded = DiffcImage(level=208, reconstruction=rule)  # type: ignore[arg-type]
            found = decoded(coded, octets[:length], picture.shape, key)
            errors.setdefault(name, []).append(float(np.mean(np.square(found - picture.astype(float)))))
    ahead = 10 * np.log10(np.array(errors["ancestral"]) / np.array(errors["flow"]))
    assert ahead.mean() > 1.3 and ahead.min() > 0.3, "F is ahead of A in every picture, by more than a dB"
    assert np.all(np.diff([np.mean(errors[f"{part} eighths"]) for part in range(9)]) < 0)
