# SPDX-License-Identifier: ISC
"""The errands that a PWD dialogue has done: their kinds, and the fields of each.

Both sides know them, the dialogue that asks and the desk that does what is asked.
"""

LOGIN = 1  # mechanism's word, user, password or digest
SCRAM_FIRST = 2  # mechanism's word, the client's first message
SCRAM_FINAL = 3  # the client's final message
EXECUTE = 4  # a line, answered by an answer (see codes.lines)
CHANGE = 5  # new password, answered by why not

LINE = "Line"  # the event that a traced dialogue logs for each line, masked
