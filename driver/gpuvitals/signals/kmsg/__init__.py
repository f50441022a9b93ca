"""The kernel log as a source of signals: `source` reads it, `record_stream` orders records and counts losses, `decode`
makes signals.

May live here: readers of kernel records and the pure parsers of their text. May not: judgement.
"""
