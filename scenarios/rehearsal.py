"""Refuse what cannot work before anything is written: every coder codes one item, every decoder restores one that is lost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from channel_sim.checks import RequestError
from channel_sim.keys import Key
from channel_sim.trial import send
from channel_sim.types import Evidence
from scenarios.scenario import Scenario, Task

_TOKENS = 4


def rehearse(scenario: Scenario) -> None:
    """Some parts fit one by one and not together, which only a trial shows. `RequestError` names arm and reason."""
    senders = {(task.chain.source, task.chain.tokenizer, task.chain.coder): task for task in scenario.tasks}
    decoders = {(task.chain.tokenizer, task.chain.decoder): task for task in scenario.tasks}
    for task in senders.values():
        _try(scenario, task, partial(send, task.chain, [0], Key(scenario.seed)))
    for task in decoders.values():
        nothing = Evidence(np.zeros(_TOKENS, bool), np.zeros(_TOKENS, np.int32), task.chain.tokenizer.vocab_size)
        _try(scenario, task, partial(task.chain.decoder.restore, [nothing], [Key(scenario.seed)]))


def _try(scenario: Scenario, task: Task, part: Callable[[], object]) -> None:
    try:
        part()
    except RequestError:
        raise
    except (ValueError, OverflowError, MemoryError) as error:
        raise RequestError(f"{scenario.name}: arm {task.arm!r}: {error}".replace("\n", " ")) from error
