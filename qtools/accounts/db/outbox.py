# SPDX-License-Identifier: ISC
"""Tell a program of the administrator's what was committed: the hook."""


def run_hook(path: bytes) -> str:
    """Tell the configured program what has been committed and not yet been told.

    To be called after a commit, when nobody waits any more. It is not run where
    another process is telling just now; that one tells this, too.
    Gives: nothing, or for the log why something is still to be told.
    """
    raise NotImplementedError
