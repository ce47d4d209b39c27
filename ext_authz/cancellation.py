"""Who was cancelled: the work at hand, or only something that it waits for."""

import asyncio


def was_cancelled() -> bool:
    """Whether it is the running task that was cancelled. To be asked where `CancelledError` was caught."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
