"""`channel-sim train loss-model`: models fitted to a loss trace, and a scenario that replays the trace beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.loss_fit import fit_models, residual_loss
from channel_sim.loss_law import LossLaw, trace_law
from channel_sim.loss_trace import read_trace
from channel_sim.losses import PacketLossChannel
from scenarios.catalogue import name_of

CODE = (20, 16)
_LABELS = {"independent": "independent losses", "gilbert": "Gilbert", "gilbert_elliott": "Gilbert-Elliott",
           "three_state": "three states"}
_DRAWN_SLOTS, _LAGS = 500_000, (1, 2, 4, 8)


def fit_trace(trace: Path, out: Path) -> str:
    """Fit all models, write the scenario `out`, and return the statistics of trace and models as text."""
    try:
        lost = read_trace(str(trace))
    except ValueError as error:
        raise RequestError(f"train loss-model: {error}") from error
    models = fit_models(lost)
    try:
        out.write_text(scenario_text(_path_from(trace, out), lost, models), encoding="utf-8")
    except OSError as error:
        raise RequestError(f"--out {out}: cannot be written ({error.strerror}); choose another file") from error
    return f"{statistics(lost, models)}\nscenario: {out}"


def statistics(lost: np.ndarray, models: Mapping[str, PacketLossChannel]) -> str:
    """A table of the trace bool [num_slots] and its models: loss, bursts, memory, and what an erasure code would leave of each."""
    n, k = CODE
    head = f"{'':20}{'loss rate':>11}{'mean burst':>12}{'P(l|l)':>9}" + "".join(f"{f'corr {lag}':>9}" for lag in _LAGS)
    lines = [head + f"{f'residual ({n},{k})':>18}", _line("trace", trace_law(lost), residual_loss(lost, n, k))]
    for name, model in models.items():
        left = residual_loss(model.lost_packets(_DRAWN_SLOTS, Key(1).child("fit", name)), n, k)
        law = model.loss_law()
        assert law is not None  # every model that is fitted states its law
        lines.append(_line(_LABELS[name], law, left))
    return "\n".join([*lines, f"residual: losses of source packets that a systematic ({n},{k}) erasure code leaves; of a model "
                              f"from {_DRAWN_SLOTS:,} slots"])


def _line(label: str, law: LossLaw, left: float) -> str:
    memory = "".join(f"{law.autocorrelation[lag - 1]:9.4f}" for lag in _LAGS)
    return f"{label:20}{law.loss_rate:11.5f}{law.mean_burst or 0:12.3f}{law.loss_given_loss or 0:9.4f}{memory}{left:18.5f}"


def scenario_text(path: str, lost: np.ndarray, models: Mapping[str, PacketLossChannel]) -> str:
    """A scenario in which one erasure code meets the trace and every model, in order and interleaved."""
    arms = [("the trace itself", {"name": "loss_trace", "path": path})]
    arms += [(f"model: {_LABELS[name]}", _table(model)) for name, model in models.items()]
    head = f"""\
# A trace of losses replayed, beside models fitted to it at equal loss rate ({lost.size:,} slots, loss rate {lost.mean():.5g}).
# Written by channel-sim train loss-model. All arms send the same packets under the same code; only their losses differ.
# Where the interval of a model does not meet that of the trace, the model misleads about this code.
question = "Does a loss model fitted to this trace tell what an erasure code leaves of it?"
seed = 1
items = 300
show = ["residual_packet_loss_rate", "packet_loss_rate", "delay_packets"]

[source]
name = "bernoulli"
num_symbols = 1280

[coder]
name = "fixed_length"
packet_bits = 8
header_bits = 0

[protection]
name = "reed_solomon"
n = {CODE[0]}
k = {CODE[1]}
interleave_depth = 1

[sweep]
"protection.interleave_depth" = [1, 2, 5, 10]
"""
    tables = [f'\n[[arm]]\nlabel = "{label}"\nchannel = {{ {_toml(table)} }}\n' for label, table in arms]
    return head + "".join(tables)


def _table(model: PacketLossChannel) -> dict[str, Any]:
    fields = [key for key in type(model).model_fields if key not in model.ignored_fields | {"crc", "slot_bits"}]
    return {"name": name_of(model)} | {key: getattr(model, key) for key in fields}


def _toml(table: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items())


def _path_from(trace: Path, out: Path) -> str:
    """As a scenario file names it: relative to its own folder if the trace lies in it, else absolute."""
    folder = out.resolve().parent
    return trace.resolve().relative_to(folder).as_posix() if trace.resolve().is_relative_to(folder) else str(trace.resolve())
