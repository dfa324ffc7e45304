# SPDX-License-Identifier: ISC
"""Chains of others, as tcpserver and sslserver run them."""
