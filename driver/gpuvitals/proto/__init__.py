"""Generated from api/proto by `make protos`; never edited.

Only `kubeletplugin` and `sim` import from here.
"""
