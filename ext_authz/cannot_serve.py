"""What the service says when it cannot start. A small word of its own: the parent of workers needs little."""


class CannotServe(Exception):
    """The service cannot start; the message is one sentence for the operator."""
