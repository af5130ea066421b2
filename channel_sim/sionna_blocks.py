"""Sionna behind one door: constellations, LDPC encoding, and demapping with decoding, in calls of one fixed shape.

TensorFlow is loaded on first use, never on import. Everything stochastic is drawn outside and passed in.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

FRAMES_A_CALL = 8
"""Frames a compiled call takes. One shape means one compilation; 16 and 64 are no faster from 512 bits a block on."""


@dataclass(frozen=True)
class FrameFormat:
    """What the compiled calls depend on. A frame is one code block, or without a code (`num_iterations` 0) so many bits."""

    info_bits: int
    code_bits: int
    bits_per_symbol: int
    num_iterations: int = 0

    @property
    def symbols(self) -> int:
        return self.code_bits // self.bits_per_symbol

    @property
    def coded(self) -> bool:
        return self.num_iterations > 0


@lru_cache(maxsize=None)
def constellation_points(bits_per_symbol: int) -> np.ndarray:
    """complex128 [2^bits_per_symbol], Gray-labelled, mean energy 1; index = label, first bit most significant.

    One bit a symbol is antipodal on the real axis, bit 0 at +1.

    Source: 3GPP TS 38.211, "Physical channels and modulation", section 5.1 (2018).
    """
    points = np.asarray(_constellation(bits_per_symbol).points, dtype=np.complex128)
    points /= np.sqrt(np.mean(np.abs(points) ** 2))  # single precision leaves the energy off by 1e-7
    points.flags.writeable = False
    return points


def encode(info_bits: np.ndarray, frame: FrameFormat) -> np.ndarray:
    """uint8 [num_frames, code_bits] from uint8 [num_frames, info_bits]; what comes out of 38.212's bit interleaver."""
    if not frame.coded or not len(info_bits):
        return info_bits.reshape(-1, frame.code_bits)
    return _in_calls(_compiled_encoder(frame), info_bits.astype(np.float32)).astype(np.uint8)


def detect(symbols: np.ndarray, noise: np.ndarray, scrambling: np.ndarray, frame: FrameFormat) -> np.ndarray:
    """float32 [num_frames, info_bits] = ln P(1)/P(0): demap (exact, not max-log), undo the scrambling, decode.

    symbols:    complex [num_frames, symbols], equalised
    noise:      float [num_frames, symbols], the noise variance E|n|^2 of each equalised symbol
    scrambling: uint8 [num_frames, code_bits], XORed into the bits before they were mapped
    """
    if not len(symbols):
        return np.zeros((0, frame.info_bits), np.float32)
    return _in_calls(_compiled_detector(frame), symbols.astype(np.complex64), noise.astype(np.float32),
                     1 - 2 * scrambling.astype(np.float32))


def _in_calls(function: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """Apply `function` to FRAMES_A_CALL rows at a time; the last call is filled up with rows of ones, which are dropped."""
    num_rows = len(arrays[0])
    results = []
    for start in range(0, num_rows, FRAMES_A_CALL):
        rows = [array[start:start + FRAMES_A_CALL] for array in arrays]
        missing = FRAMES_A_CALL - len(rows[0])
        results.append(function(*(np.pad(one, ((0, missing), (0, 0)), constant_values=1) for one in rows)).numpy())
    return np.concatenate(results)[:num_rows]


@lru_cache(maxsize=64)
def _compiled_encoder(frame: FrameFormat) -> Callable[..., Any]:
    tf, _ = load()
    signature = [tf.TensorSpec((FRAMES_A_CALL, frame.info_bits), tf.float32)]
    return tf.function(_ldpc_encoder(frame), input_signature=signature, jit_compile=True)


@lru_cache(maxsize=64)
def _compiled_detector(frame: FrameFormat) -> Callable[..., Any]:
    tf, phy = load()
    demapper = phy.mapping.Demapper("app", constellation=_constellation(frame.bits_per_symbol))
    decoder = _ldpc_decoder(frame) if frame.coded else lambda llr: llr
    by_symbol = (FRAMES_A_CALL, frame.symbols)
    signature = [tf.TensorSpec(by_symbol, tf.complex64), tf.TensorSpec(by_symbol, tf.float32),
                 tf.TensorSpec((FRAMES_A_CALL, frame.code_bits), tf.float32)]

    def demap_and_decode(symbols: Any, noise: Any, signs: Any) -> Any:
        return decoder(demapper(symbols, noise) * signs)  # [FRAMES_A_CALL, info_bits]

    # XLA: three times the graph's speed, for some seconds of compilation a frame format (docs/links.md)
    return tf.function(demap_and_decode, input_signature=signature, jit_compile=True)


@lru_cache(maxsize=64)
def _ldpc_encoder(frame: FrameFormat) -> Any:
    _, phy = load()
    return phy.fec.ldpc.LDPC5GEncoder(frame.info_bits, frame.code_bits, num_bits_per_symbol=frame.bits_per_symbol)


def _ldpc_decoder(frame: FrameFormat) -> Any:
    _, phy = load()
    encoder = _ldpc_encoder(frame)
    sent_bits = encoder.n_ldpc - 2 * encoder.z - (encoder.k_ldpc - encoder.k)
    # Sionna prunes an empty graph where no parity bit is punctured
    return phy.fec.ldpc.LDPC5GDecoder(encoder, cn_update="boxplus-phi", hard_out=False, return_infobits=True,
                                      num_iter=frame.num_iterations, prune_pcm=frame.code_bits < sent_bits)


@lru_cache(maxsize=None)
def _constellation(bits_per_symbol: int) -> Any:
    _, phy = load()
    return phy.mapping.Constellation("pam" if bits_per_symbol == 1 else "qam", bits_per_symbol)


@lru_cache(maxsize=1)
def load() -> tuple[ModuleType, ModuleType]:
    """TensorFlow and sionna.phy, started without their chatter."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # several workers may share one GPU
    with _muted_stderr():
        tensorflow, phy = import_module("tensorflow"), import_module("sionna.phy")
        tensorflow.zeros(1)  # the first operation looks for devices, and logs what it misses
    return tensorflow, phy


@contextmanager
def _muted_stderr() -> Iterator[None]:
    """Hold back what is written to file descriptor 2; show it if the block fails.

    TensorFlow's C++ start-up messages heed no environment variable before its logging is initialised.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        except BaseException:
            held_back.seek(0)
            os.write(kept, held_back.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
