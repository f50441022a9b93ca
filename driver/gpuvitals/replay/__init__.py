"""Replay of saved kernel logs through the health fold: line by line, in constant memory, on the log's own time.

`node` and this package drive the same fold of `health`, one with live signals and one with saved logs. This package
holds the parsers of log formats, the replay itself and its report. It opens no file and reads no clock: the input is
blocks of bytes, the output is timeline entries and a summary (docs/adr/019-replay-room.md).
"""
