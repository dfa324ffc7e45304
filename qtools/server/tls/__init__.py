# SPDX-License-Identifier: ISC
"""TLS in processes of its own: settings, contexts, handshake and relay."""
