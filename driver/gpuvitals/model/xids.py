"""Facts about single XIDs that several packages share."""

HANDS_OFF_XIDS = frozenset({79, 119, 120})
"""XIDs after which a driver call may hang: the GPU is probed rarely instead of polled.

Source: NVIDIA/DCGM v4.6.0 DcgmCacheManager.cpp, which skips driver calls for the whole host after them, and
DcgmKmsgReader.cpp, __DCGM_FATAL_XIDS__.
"""
