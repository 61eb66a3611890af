"""The one exception that means "your input, not our bug"."""


class InputError(ValueError):
    """What the caller passed cannot be used: the message says what is wrong, the value seen, and what to do.

    The command line prints it as one line and exits with code 2. Everything else that escapes is a bug.
    """
