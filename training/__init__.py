"""Training of segmentation networks: data, augmentation, models, losses, distillation, evaluation, export.

Nothing is here yet.
"""
