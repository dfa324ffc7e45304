# SPDX-License-Identifier: ISC
"""What a process sees to before it holds passwords and calls other people's libraries.

Those may crash, and what they leave of us is to hold no secret; and C has no use for
Python's way of being interrupted, which is an exception wherever we happen to be: one
that comes up in a callback is printed, and the callback taken for a success.
"""

import _signal  # type: ignore[import-not-found]  # typeshed lacks it; signal is dear


def dump_no_core() -> None:
    """Have no core file written, by us and all we start."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))


def end_at_interrupt() -> None:
    """Have SIGINT end us as other signals do; one that is ignored stays so."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
