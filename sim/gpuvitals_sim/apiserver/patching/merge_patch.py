"""JSON merge patch (RFC 7386): null removes a key, lists are replaced.

Place in the chain: PATCH with `application/merge-patch+json`.
"""

from typing import Any

from gpuvitals_sim.apiserver.json_types import clone


def apply_merge_patch(document: Any, patch: Any) -> Any:
    """The patched copy; a patch that is no object replaces the document."""
    if not isinstance(patch, dict):
        return clone(patch)
    result = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = apply_merge_patch(result.get(key), value)
    return result
