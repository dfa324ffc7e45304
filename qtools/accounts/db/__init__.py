# SPDX-License-Identifier: ISC
"""The embedded account database: an SQLite file, its readers and its writers.

A login needs reader and nothing else of this; see qtools-accounts(5).
"""
