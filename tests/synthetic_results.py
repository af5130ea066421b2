"""A results file as a run of text over bursty loss would leave it, made without a run."""

import base64
import csv
import io
import wave
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from channel_sim.keys import Key
from channel_sim.ledger import Ledger
from channel_sim.store import Curve, Point, Store, Trial
from reports.pictures import png

TEXT = '''The "in" operator tests membership. "x in s" evaluates to "True" if *x* is a member of *s*, and "False" otherwise.
"x not in s" returns the negation of "x in s". All built-in sequences and set types support this as well as dictionary, for
which "in" tests whether the dictionary has a given key. For container types such as list, tuple, set, frozenset, dict, or
collections.deque, the expression "x in y" is equivalent to "any(x is e or x == e for e in y)". <b>naïve & 日本</b>
'''.encode().decode("latin-1")
ARMS = {"none": 1.0, "most frequent": 0.82, "repeat last": 0.93, "n-gram prior": 0.34, "compress, drop lost": 2.6,
        "compress + Reed–Solomon": 0.0}
LOSS_RATES = [0.01, 0.02, 0.05, 0.1, 0.2]


def synthetic_store(path: Path, *, num_items: int = 40, sweep: dict[str, list[Any]] | None = None) -> Store:
    """A results file like that of a run of text over bursty loss; arms are nested in one loss pattern."""
    sweep = {"channel.loss_rate": LOSS_RATES} if sweep is None else sweep
    store = Store.create(path, meta(sweep))
    grid = [dict(zip(sweep, values, strict=True)) for values in _product(list(sweep.values()))]
    points, curves = [], []
    for a, arm in enumerate(ARMS):
        for p, values in enumerate(grid):
            task_id = f"{a:02d}{p:02d}" + "c0ffee" * 10
            points.append(Point(a, p, arm, values, task_id))
            rate = values.get("channel.loss_rate", 0.1)
            store.add([trial(task_id, arm, rate, item) for item in range(num_items)],
                      [(task_id, item, sample(arm, rate, item)) for item in range(2)])
            curves.append(Curve(p, "nothing restored", "token_error_rate", rate, "expected loss of uncoded tokens"))
    store.set_plan(points, {point.task_id: {} for point in points}, {(c.point_index, c.label): c for c in curves}.values())
    return store


def meta(sweep: dict[str, list[Any]]) -> dict[str, Any]:
    return {
        "name": "quickstart", "items": 40, "replicates": 1, "seed": 1, "sweep": sweep,
        "question": "Is the language model worth more as a compressor with parity or as a prior without?",
        "scenario_toml": 'question = "Is the language model …?"\nitems = 40\n\n[source]\nname = "text"\npath = "python-docs"\n',
        "arms": [{"label": arm, "chain": _chain(arm)} for arm in ARMS],
        "assumptions": ["The preamble arrives intact; its bits are charged.", "Headers are intact unless the packet is lost."],
        "sources": ['E. N. Gilbert, "Capacity of a burst-noise channel", Bell Syst. Tech. J. 39 (1960).'],
        "notes": ["A contiguous hole in text cannot be restored: what was lost is new information, not redundancy."],
        "samples_note": "The first items of the run, not chosen by outcome.",
        "provenance": {"versions": {"channel-sim": "0.1.0", "numpy": "2.4.6"}, "commit": "fee2d3d", "device": "x86_64, 2 cores",
                       "command": "channel-sim run quickstart --out results/quickstart"},
        "show": ["token_error_rate", "recovered_fraction", "bits_per_byte"],
    }


def _chain(arm: str) -> list[dict[str, Any]]:
    entropy = arm.startswith("compress")
    coder = {"name": "entropy", "parameters": {"model": "ngram", "packet_bits": 512, "context": "independent", "header_bits": 32}}
    fixed = {"name": "fixed_length", "parameters": {"packet_bits": 512, "interleave": True, "header_bits": 32}}
    parity = {"name": "reed_solomon", "parameters": {"n": 20, "k": 12}}
    decoder = {"none": "none", "most frequent": "most_frequent", "repeat last": "repeat_last", "n-gram prior": "ngram"}
    return [
        {"stage": "source", "name": "text", "parameters": {"path": "python-docs", "item_bytes": 1024}},
        {"stage": "tokenizer", "name": "bytes", "parameters": {}},
        {"stage": "coder", **(coder if entropy else fixed)},
        {"stage": "protection", **(parity if "Reed" in arm else {"name": "none", "parameters": {}})},
        {"stage": "channel", "name": "gilbert_elliott",
         "parameters": {"loss_rate": 0.1, "mean_burst_packets": 3.0, "slot_bits": 512, "crc": "none"}},
        {"stage": "decoder", "name": decoder.get(arm, "none"), "parameters": {}},
    ]


def _product(values: list[list[Any]]) -> list[tuple[Any, ...]]:
    grid: list[tuple[Any, ...]] = [()]
    for one in values:
        grid = [(*head, value) for head in grid for value in one]
    return grid


def trial(task_id: str, arm: str, rate: float, item: int) -> Trial:
    uniforms = Key(1).child("trial", item).uniform(1024)
    burst = min(0.9, rate * 2 * Key(1).child("item", item).uniform(1)[0])
    erased = uniforms < burst
    left = ARMS[arm] if "Reed" not in arm else max(0.0, 12 * (rate - 0.04))
    wrong = float(np.sum(uniforms < burst * left))
    entropy = arm.startswith("compress")
    metrics = {"token_error_rate": (wrong, 1024.0), "bits_per_byte": (2600.0 + 30 * (item % 7) if entropy else 8704.0, 1024.0),
               "packet_loss_rate": (float(np.sum(erased[::64])), 16.0)}
    reasons = {"chrf": "needs sacreBLEU's tokenizer, not part of this chain"}
    if not entropy:
        metrics["recovered_fraction"] = (float(np.sum(erased)) - min(wrong, float(np.sum(erased))), float(np.sum(erased)))
    else:
        reasons["recovered_fraction"] = "erased packets hold a varying number of tokens"
    uses = 2900 if arm == "compress, drop lost" else 4890 if entropy else 4880
    ledger = Ledger(source_symbols=1024, token_bits=8192, coded_bits=2500 if entropy else 4300, header_bits=320, preamble_bits=24,
                    parity_bits=2000 if "Reed" in arm else 0, channel_uses=uses, transmissions=17, energy=float(uses))
    return Trial(task_id, item, 0, metrics, reasons, ledger.to_dict(), 0.01)


def sample(arm: str, rate: float, item: int) -> dict[str, Any]:
    lost = Key(2).child("packets", item).uniform(16) < rate
    guess, origin, restored = Key(2).child("guess", item).uniform(len(TEXT)), [], []
    for i, letter in enumerate(TEXT):
        if not lost[i % 16] or "Reed" in arm:
            kind, out = 0, letter
        elif arm == "n-gram prior":
            kind, out = (1 if guess[i] < 0.1 else 2), (letter if guess[i] < 0.7 else "e")
        elif arm == "most frequent":
            kind, out = 2, " "
        else:
            kind, out = 3, "\0"
        origin.append(kind)
        restored.append(out)
    runs: list[list[int]] = []
    for kind in origin:
        if runs and runs[-1][0] == kind:
            runs[-1][1] += 1
        else:
            runs.append([kind, 1])
    return {"kind": "text", "item": f"python-docs, topic 'in', bytes {item * 1024} to {item * 1024 + 1023}", "original": TEXT,
            "restored": "".join(restored), "origin": runs, "lost_packets": "".join("01"[int(one)] for one in lost),
            "lost_slots": turns(lost.tolist())}


def picture_store(path: Path, *, side: int = 48, num_items: int = 12, rates: list[float] = [0.05, 0.2, 0.4]) -> Store:
    """A results file as a run of pictures in cells of 4 x 4 pixels would leave it: grey for lost cells, the mean, or all of it."""
    store = Store.create(path, meta({"channel.loss_rate": rates}) | {
        "name": "pictures", "arms": [], "show": ["psnr_db"], "question": "Do neighbours restore what cells of a picture lost?"})
    arms = ["nothing restored", "the mean of what arrived", "another picture without any loss"]
    points = [Point(a, p, arm, {"channel.loss_rate": rate}, f"{a}-{p}") for a, arm in enumerate(arms)
              for p, rate in enumerate(rates)]
    store.set_plan(points, {point.task_id: {} for point in points}, [])
    for point in points:
        shown = [(point.task_id, item, picture_sample(point.arm_index, point.sweep["channel.loss_rate"], item, side))
                 for item in range(2)]
        store.add([Trial(point.task_id, item, 0, {"psnr_db": (30.0 - 20 * point.sweep["channel.loss_rate"] + item % 3, 1.0)}, {},
                         Ledger(channel_uses=3 * side * side).to_dict()) for item in range(num_items)], shown)
    return store


def picture_sample(arm: int, rate: float, item: int, side: int) -> dict[str, Any]:
    """Waves of colour with a bright square; cells are lost one by one."""
    y, x = np.mgrid[:side, :side] / side
    waves = np.stack([np.sin((4 + 3 * c + item) * x + c) * np.cos((5 - c) * y) for c in range(3)], axis=2)
    picture = (127 + 100 * waves).astype(np.uint8)
    picture[side // 4:side // 2, side // 3:side // 2] = 255
    cells = Key(4).child("cells", item).uniform(side // 4, side // 4) < (rate if arm < 2 else 0)
    missing = cells.repeat(4, axis=0).repeat(4, axis=1)
    arrived, restored = picture.copy(), picture.copy()
    arrived[missing] = 128
    restored[missing] = 128 if arm == 0 else picture[~missing].mean(axis=0)
    error = float(np.mean((picture.astype(float) - restored) ** 2))
    origins = [(3 if arm == 0 else 2) if lost else 0 for lost in cells.ravel()]
    record = {"kind": "image", "item": f"waves, number {item}", "original": png(picture), "restored": png(restored),
              "missing": png(255 * missing[..., None].astype(np.uint8)), "lost_packets": "",
              "lost_slots": turns(cells.ravel().tolist()),
              "measured": {"psnr_db": 60.0 if error == 0 else 10 * np.log10(255**2 / error), "bits_per_pixel": 1.5},
              "origin": [[one, len(list(run))] for one, run in groupby(origins)]}
    return record | ({"arrived": png(arrived)} if arm == 1 else {})


def sound_store(path: Path, *, num_samples: int = 8000, rates: list[float] = [0.05, 0.2]) -> Store:
    """A results file as a run of sounds in packets of 10 ms would leave it: silence for lost packets, a line over them, or all."""
    arms = ["silence", "lines", "another sound without any loss"]
    store = Store.create(path, meta({"channel.loss_rate": rates}) | {
        "name": "sounds", "arms": [], "show": ["si_sdr_db"], "question": "Do lines restore what packets of a sound lost?"})
    points = [Point(a, p, arm, {"channel.loss_rate": rate}, f"{a}-{p}") for a, arm in enumerate(arms)
              for p, rate in enumerate(rates)]
    store.set_plan(points, {point.task_id: {} for point in points}, [])
    for point in points:
        rate = point.sweep["channel.loss_rate"]
        store.add([Trial(point.task_id, item, 0, {"si_sdr_db": (20.0 - 40 * rate + item % 3, 1.0)}, {},
                         Ledger(channel_uses=16 * num_samples).to_dict()) for item in range(12)],
                  [(point.task_id, item, sound_sample(point.arm_index, rate, item, num_samples)) for item in range(2)])
    return store


def sound_sample(arm: int, rate: float, item: int, num_samples: int, *, bits: int = 16) -> dict[str, Any]:
    """A tone that rises, twice as fast in the second item, with a click in the middle; packets of 80 samples are lost."""
    seconds = np.arange(num_samples) / 8000
    tone = 0.5 * np.sin(2 * np.pi * (300 + 600 * (item + 1) * seconds) * seconds)
    tone[num_samples // 2] = 1.0
    sent = np.clip(32767 * tone, -32768, 32767).astype(np.int16)
    lost = Key(5).child("packets", item).uniform(num_samples // 80) < (rate if arm < 2 else 0)
    missing = lost.repeat(80)
    silent, restored = np.where(missing, 0, sent), sent.astype(float)
    kept = np.flatnonzero(~missing)
    restored[missing] = 0 if arm == 0 else np.interp(np.flatnonzero(missing), kept, sent[kept])
    files = [_wav(one, bits) for one in (sent, restored.astype(np.int16), silent.astype(np.int16))]
    record = {"kind": "sound", "item": f"a rising tone, number {item}", "original": files[0], "restored": files[1],
              "sample_rate": 8000, "num_samples": num_samples, "missing": turns(missing.tolist()), "lost_packets": "",
              "lost_slots": turns(lost.tolist()), "measured": {"si_sdr_db": 12.5, "bits_per_token": 8.0},
              "origin": [[(3 if arm == 0 else 2) if one else 0, 160 * len(list(run))] for one, run in groupby(lost.tolist())]}
    return record | ({"arrived": files[2]} if arm == 1 else {})


def _wav(samples: np.ndarray, bits: int) -> str:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, bits // 8, 8000, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes() if bits == 16 else (samples // 256 + 128).astype(np.uint8).tobytes())
    return f"data:audio/wav;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def turns(lost: list[bool]) -> list[int]:
    """Lengths of runs that arrived and were lost, in turn, by counting."""
    lengths, now = [0], False
    for one in lost:
        if one != now:
            lengths, now = [*lengths, 0], one
        lengths[-1] += 1
    return lengths
