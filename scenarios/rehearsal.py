"""Refuse what cannot work before anything is written: every coder codes one item, every decoder restores one that is lost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import TypeVar

import numpy as np

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.stages import Tokenizer
from channel_sim.trial import send
from channel_sim.types import Evidence
from scenarios.scenario import Scenario, Task

_CELLS = 4
Result = TypeVar("Result")


def rehearse(scenario: Scenario) -> None:
    """Some parts fit one by one and not together, which only a trial shows. `RequestError` names arm and reason."""
    senders = {(task.chain.source, task.chain.tokenizer, task.chain.coder): task for task in scenario.tasks}
    decoders = {(task.chain.tokenizer, task.chain.decoder): task for task in scenario.tasks}
    grids: dict[Tokenizer, tuple[int, ...]] = {}
    for task in senders.values():
        sent, = _try(scenario, task, partial(send, task.chain, [0], Key(scenario.seed)))
        grids[task.chain.tokenizer] = sent.tokens.grid
    for task in decoders.values():
        tokenizer = task.chain.tokenizer
        sides, depth = len(grids[tokenizer][:2]), grids[tokenizer][2:]  # which some models read none but their own of
        grid = (1,) * (sides - 1) + (_CELLS, *depth)
        nothing = Evidence(np.zeros(prod(grid), bool), np.zeros(prod(grid), np.int32), tokenizer.vocab_size, grid)
        _try(scenario, task, partial(task.chain.decoder.restore, [nothing], [Key(scenario.seed)]))


def _try(scenario: Scenario, task: Task, part: Callable[[], Result]) -> Result:
    try:
        return part()
    except RequestError:
        raise
    except (ValueError, OverflowError, MemoryError) as error:
        raise RequestError(f"{scenario.name}: arm {task.arm!r}: {error}".replace("\n", " ")) from error
