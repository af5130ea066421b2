"""Sionna behind one door: its encoders and decoders, compiled, in calls of one fixed shape.

TensorFlow is loaded on first use, never on import. Everything stochastic is drawn outside and passed in.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

CodeName = Literal["uncoded", "ldpc", "polar", "convolutional", "turbo"]
BLOCKS_A_CALL: dict[str, int] = {"ldpc": 8, "convolutional": 64, "turbo": 64}
"""Code blocks a compiled decoder takes. One shape means one compilation, and a block's result that depends on nothing else."""
ENCODED_A_CALL = 64
CONSTRAINT_LENGTH = {"convolutional": 8, "turbo": 4}
LARGEST_TRELLIS_LLR = 40.0
"""Sionna's BCJR decoder works on exp(LLR): more overflows."""


@dataclass(frozen=True)
class FrameFormat:
    """One code block, or without a code one symbol: all that encoding and decoding depend on.

    code_bits fill whole symbols; a code word of fewer bits (`word_bits`) is filled up with zeros that tell nothing.
    """

    info_bits: int
    code_bits: int
    bits_per_symbol: int
    code: CodeName = "uncoded"
    num_iterations: int = 0
    list_size: int = 0
    in_numba: bool = False

    @property
    def symbols(self) -> int:
        return self.code_bits // self.bits_per_symbol

    @property
    def word_bits(self) -> int:
        return 2 * self.info_bits if self.code in CONSTRAINT_LENGTH else self.code_bits


def encode(info_bits: np.ndarray, frame: FrameFormat) -> np.ndarray:
    """uint8 [num_blocks, word_bits] from uint8 [num_blocks, info_bits]; ldpc, polar: out of 38.212's interleaver."""
    return _in_calls(_compiled_encoder(frame), ENCODED_A_CALL, info_bits.astype(np.float32)).astype(np.uint8)


def decode(llr: np.ndarray, a_priori: np.ndarray | None, frame: FrameFormat) -> np.ndarray:
    """float32 [num_blocks, info_bits]: posterior LLR = ln P(1)/P(0) of the information bits, prior included.

    llr:      float32 [num_blocks, word_bits] from the channel
    a_priori: float32 [num_blocks, info_bits], or None for none
    """
    arrays = [llr] if a_priori is None else [llr, a_priori]
    return _in_calls(_compiled_decoder(frame, a_priori is not None), BLOCKS_A_CALL[frame.code], *arrays)


def _in_calls(function: Callable[..., Any], rows_a_call: int, *arrays: np.ndarray) -> np.ndarray:
    """Apply `function` to `rows_a_call` rows at a time; the last call is filled up with rows of ones, which are dropped."""
    num_rows = len(arrays[0])
    results = []
    for start in range(0, num_rows, rows_a_call):
        rows = [array[start:start + rows_a_call] for array in arrays]
        missing = rows_a_call - len(rows[0])
        if missing:
            rows = [np.pad(one, ((0, missing), (0, 0)), constant_values=1) for one in rows]
        results.append(function(*rows).numpy())
    return np.concatenate(results)[:num_rows]


@lru_cache(maxsize=64)
def _compiled_encoder(frame: FrameFormat) -> Callable[..., Any]:
    tf, _ = load()
    signature = [tf.TensorSpec((ENCODED_A_CALL, frame.info_bits), tf.float32)]
    return _compiled(lambda: encoder(frame), signature)


@lru_cache(maxsize=64)
def _compiled_decoder(frame: FrameFormat, with_prior: bool) -> Callable[..., Any]:
    tf, _ = load()
    rows = BLOCKS_A_CALL[frame.code]
    signature = [tf.TensorSpec((rows, bits), tf.float32) for bits in (frame.word_bits, frame.info_bits)[:1 + with_prior]]
    build = {"ldpc": _ldpc_decoder, "convolutional": _convolutional_decoder, "turbo": _turbo_decoder}[frame.code]
    return _compiled(lambda: build(frame), signature)


def _compiled(build: Callable[[], Any], signature: list[Any]) -> Callable[..., Any]:
    """Built and compiled without the chatter of Sionna and TensorFlow, which speak at the first call."""
    tf, _ = load()
    with _muted_stderr(), redirect_stdout(StringIO()):
        # XLA: three times the graph's speed, for some seconds of compilation a frame format (docs/links.md)
        function = tf.function(build(), input_signature=signature, jit_compile=True)
        function(*(np.zeros(one.shape, np.float32) for one in signature))
    return function


@lru_cache(maxsize=64)
def encoder(frame: FrameFormat) -> Any:
    """Sionna's encoder block."""
    _, phy = load()
    if frame.code == "ldpc":
        return phy.fec.ldpc.LDPC5GEncoder(frame.info_bits, frame.code_bits, num_bits_per_symbol=frame.bits_per_symbol)
    if frame.code == "polar":
        return phy.fec.polar.Polar5GEncoder(frame.info_bits, frame.code_bits)
    if frame.code == "convolutional":
        return phy.fec.conv.ConvEncoder(rate=1 / 2, constraint_length=CONSTRAINT_LENGTH["convolutional"])
    return phy.fec.turbo.TurboEncoder(rate=1 / 2, constraint_length=CONSTRAINT_LENGTH["turbo"], terminate=False)


def ldpc_decoder(frame: FrameFormat) -> Any:
    """Sionna's LDPC decoder block with soft output."""
    _, phy = load()
    code = encoder(frame)
    sent_bits = code.n_ldpc - 2 * code.z - (code.k_ldpc - code.k)
    # Sionna prunes an empty graph where no parity bit is punctured
    return phy.fec.ldpc.LDPC5GDecoder(code, cn_update="boxplus-phi", hard_out=False, return_infobits=True,
                                      num_iter=frame.num_iterations, prune_pcm=frame.code_bits < sent_bits)


def _ldpc_decoder(frame: FrameFormat) -> Callable[..., Any]:
    """Sionna's decoder; with a prior its inner decoder of the mother code, which it leads into on all information bits.

    Sionna bounds what it starts from to ±llr_max. What the bound took from the prior is put back behind it, so that
    posterior - prior is what channel and code say.
    """
    tf, phy = load()
    decoder = ldpc_decoder(frame)
    code, bound = decoder.encoder, float(decoder.llr_max)
    fillers = code.k_ldpc - code.k
    num_bits = decoder.pcm.shape[1]

    def decode_with_prior(llr: Any, a_priori: Any) -> Any:
        rows = len(llr)
        sent = tf.gather(llr, code.out_int_inv, axis=-1)
        word = tf.concat([tf.zeros((rows, 2 * code.z)), sent, tf.zeros((rows, num_bits))], axis=1)
        of_info, of_parity = word[:, :code.k], word[:, code.k:num_bits - fillers]
        started = tf.concat([of_info + a_priori, tf.fill((rows, fillers), -bound), of_parity], axis=1)
        posterior = phy.fec.ldpc.LDPCBPDecoder.call(decoder, started)[:, :code.k]
        return posterior + _withheld(tf, of_info, a_priori, bound)

    def decode_alone(llr: Any) -> Any:
        return decoder(llr)

    return lambda llr, *prior: decode_with_prior(llr, *prior) if prior else decode_alone(llr)


def _convolutional_decoder(frame: FrameFormat) -> Callable[..., Any]:
    tf, phy = load()
    decoder = phy.fec.conv.BCJRDecoder(gen_poly=encoder(frame).gen_poly, hard_out=False)

    def decode_with_prior(llr: Any, a_priori: Any) -> Any:
        posterior = decoder(_bounded(tf, llr), llr_a=_bounded(tf, a_priori))
        return posterior + _withheld(tf, tf.zeros_like(a_priori), a_priori, LARGEST_TRELLIS_LLR)

    return lambda llr, *prior: decode_with_prior(llr, *prior) if prior else decoder(_bounded(tf, llr))


def _turbo_decoder(frame: FrameFormat) -> Callable[..., Any]:
    """The code is systematic: every second bit sent is an information bit, to which its prior is added."""
    tf, phy = load()
    decoder = phy.fec.turbo.TurboDecoder(encoder(frame), num_iter=frame.num_iterations, hard_out=False)

    def decode_with_prior(llr: Any, a_priori: Any) -> Any:
        prior = tf.reshape(tf.stack([a_priori, tf.zeros_like(a_priori)], axis=-1), llr.shape)
        return decoder(_bounded(tf, llr + prior)) + _withheld(tf, llr[:, ::2], a_priori, LARGEST_TRELLIS_LLR)

    return lambda llr, *prior: decode_with_prior(llr, *prior) if prior else decoder(_bounded(tf, llr))


def _withheld(tf: ModuleType, llr: Any, a_priori: Any, bound: float) -> Any:
    """What a bound on `llr + a_priori` keeps from the prior."""
    return a_priori - (tf.clip_by_value(llr + a_priori, -bound, bound) - tf.clip_by_value(llr, -bound, bound))


def _bounded(tf: ModuleType, llr: Any) -> Any:
    return tf.clip_by_value(llr, -LARGEST_TRELLIS_LLR, LARGEST_TRELLIS_LLR)


@lru_cache(maxsize=1)
def sees_gpu() -> bool:
    """Whether TensorFlow has a GPU to work on. Without a driver on the machine the answer needs no TensorFlow."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1")
    if hidden or not any(Path(driver).exists() for driver in ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd")):
        return False
    return bool(load()[0].config.list_physical_devices("GPU"))


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
