"""What the health fold would have made of a saved log: read line by line, in constant memory, on the log's own time.

Stands beside `node`: both turn the same fold of `health`, one on a live node, one on what a node left behind. Here may
be readers of log formats, the walk over them and its figures. No file is opened here and no clock is read: blocks of
bytes come in, findings go out (docs/adr/019-replay-room.md).
"""
