"""`verify`: whether all that a run left is whole and right."""
