"""The kernel log as a source of signals: `source` reads, `record_stream` keeps order and finds loss, `decode` ends in a Signal.

May live here: readers of kernel records and the pure parsers of their text. May not: judgement.
"""
