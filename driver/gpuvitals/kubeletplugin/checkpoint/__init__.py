"""The checkpoint: the prepared claims of this node on disk, shared by every instance of the plugin.

May live here: the file, its format and its lock. May not: decisions about claims.
"""
