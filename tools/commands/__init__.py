"""One command a file: options in, one call, what it prints out.

Enters: parsed options. Leaves: text or JSON on standard output; progress and errors go to standard error.
"""

__all__: list[str] = []
