"""The checkpoint: the prepared claims of this node on disk, shared by all instances of the plugin.

May live here: the file, its format, its lock and its recovery. May not: decisions about claims.
"""
