"""One model in one runtime, behind one interface: a batch goes in, named outputs come out.

``bench.runners.registry.load_runner`` finds the runner for a runtime's name. To add a runtime, write one file with
one final subclass of ``Runner`` and list it in ``registry``; the timers, statistics and reports stay as they are.
"""

__all__: list[str] = []
