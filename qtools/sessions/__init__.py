# SPDX-License-Identifier: ISC
"""Pure dialogues: state machines that turn received bytes into actions."""
