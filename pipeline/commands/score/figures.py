"""The figures of a score, as JSON and for people."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine import metrics
from engine.metrics import AreaAdjusted, Counts, Estimate
from pipeline.errors import printable
from pipeline.legend.label_style import LabelStyle

_MOST_SHOWN = 40


@dataclass(frozen=True)
class Scores:
    """Labels of a run beside a reference: one confusion matrix over all its rasters.

    Parameters
    ----------
    out, reference
        The folder, and the file.
    rasters, elsewhere, failed
        Names of rasters that were compared, of those that the reference does not cover, and of those that
        cannot be read, with the reason.
    classes, names
        Classes as the reference has them, in its order, and what they are called.
    style
        Names and colours of the labels.
    confusion
        Pixels of each class (row) that have each label (column).
    mapped
        Pixels of each label on the rasters that were compared.
    hits, tolerance
        As of `metrics.boundary_hits`.
    without_label
        Pixels that have a class and no label.
    strata
        Whether the accuracy of each label is shown.
    """

    out: str
    reference: str
    rasters: tuple[str, ...]
    elsewhere: tuple[str, ...]
    failed: dict[str, str]
    classes: tuple[int | str, ...]
    names: tuple[str, ...]
    style: LabelStyle
    confusion: Counts
    mapped: Counts
    hits: Counts
    tolerance: float
    without_label: int
    strata: bool

    @property
    def label_of(self) -> Counts:
        """The label of each class, -1 for none."""
        return metrics.one_to_one(self.confusion)

    def as_json(self) -> dict[str, Any]:
        """As a JSON object; what is not defined is null."""
        label_of, pixels = self.label_of, int(self.confusion.sum())
        adjusted = metrics.area_adjusted(self.confusion, label_of, self.mapped)
        iou = metrics.iou(self.confusion, label_of)
        commonest = metrics.many_to_one(self.confusion)
        found = {
            "out": self.out,
            "reference": self.reference,
            "rasters": list(self.rasters),
            "elsewhere": list(self.elsewhere),
            "failed": self.failed,
            "accuracy": metrics.accuracy(self.confusion, label_of),
            "mean_iou": float(iou.mean()),
            "ari": metrics.adjusted_rand(self.confusion),
            "boundary_f1": _number(metrics.boundary_f1(self.hits)),
            "tolerance": self.tolerance,
            "many_to_one_accuracy": metrics.many_to_one_accuracy(self.confusion),
            "matching": {str(c): int(k) for c, k in zip(self.classes, label_of, strict=True) if k >= 0},
            "many_to_one": {str(k): self.classes[c] for k, c in enumerate(commonest) if c >= 0},
            "classes": list(self.classes),
            "class_names": list(self.names),
            "label_names": list(self.style.names),
            "confusion": self.confusion.tolist(),
            "pixels": pixels,
            "left_out": {
                "without_label": self.without_label,
                "without_class": int(self.mapped.sum()) - pixels,
            },
            "per_class": self._per_class(label_of),
            "area_adjusted": self._adjusted(adjusted),
        }
        if self.strata:
            found["strata"] = self._strata(label_of, adjusted)
        return found

    def _per_class(self, label_of: Counts) -> dict[str, dict[str, Any]]:
        precision, recall = (
            metrics.precision(self.confusion, label_of),
            metrics.recall(self.confusion, label_of),
        )
        figures = {
            "iou": metrics.iou(self.confusion, label_of),
            "precision": precision,
            "recall": recall,
            "f1": metrics.f1(precision, recall),
        }
        return {
            str(c): {
                "name": self.names[row],
                "label": int(label_of[row]) if label_of[row] >= 0 else None,
                "pixels": int(self.confusion[row].sum()),
                **{key: _number(values[row]) for key, values in figures.items()},
            }
            for row, c in enumerate(self.classes)
        }

    def _adjusted(self, adjusted: AreaAdjusted) -> dict[str, Any]:
        per_class = {
            str(c): {
                **_estimate("users_accuracy", adjusted.users, row),
                **_estimate("producers_accuracy", adjusted.producers, row),
                **_estimate("area_share", adjusted.area, row),
            }
            for row, c in enumerate(self.classes)
        }
        return {
            **_estimate("accuracy", adjusted.accuracy, ()),
            "unsampled_share": adjusted.unsampled,
            "per_class": per_class,
        }

    def _strata(self, label_of: Counts, adjusted: AreaAdjusted) -> list[dict[str, Any]]:
        class_of = {int(label): c for c, label in zip(self.classes, label_of, strict=True)}
        size, total = self.confusion.sum(axis=0), max(1, int(self.mapped.sum()))
        commonest, most = metrics.many_to_one(self.confusion), self.confusion.max(axis=0)
        return [
            {
                "label": label,
                "name": self.style.names[label],
                "class": class_of.get(label),
                "mapped_pixels": int(self.mapped[label]),
                "share": int(self.mapped[label]) / total,
                "pixels": int(size[label]),
                **_estimate("accuracy", adjusted.strata, label),
                "commonest": self.classes[commonest[label]] if size[label] else None,
                "commonest_share": int(most[label]) / int(size[label]) if size[label] else None,
            }
            for label in range(len(self.mapped))
        ]

    def text(self) -> str:
        """For people."""
        found = self.as_json()
        adjusted, left_out = found["area_adjusted"], found["left_out"]
        count = f"{len(self.rasters)} rasters" if len(self.rasters) > 1 else self.rasters[0]
        width = max(5, *(len(printable(name)) for name in self.names[:_MOST_SHOWN]))
        by_area = _with_interval(adjusted, "accuracy")
        lines = [
            f"{self.out}: {count} beside {self.reference}",
            f"pixels    {found['pixels']} with a label and a class",
            f"left out  {left_out['without_class']} without a class",
            f"          {left_out['without_label']} without a label",
            f"accuracy  {found['accuracy']:.3f} with one label for each class",
            f"          {found['many_to_one_accuracy']:.3f} with each label called by its commonest class",
            f"by area   {by_area}: of the map, 95 % if the pixels are a random sample",
            f"mean IoU  {found['mean_iou']:.3f}",
            f"ARI       {found['ari']:.3f}",
            f"boundary  F1 {_shown(found['boundary_f1'])} ({self.tolerance:g} px)",
            f"{'class':{width}}  label      pixels    IoU  precision  recall     F1  share of the map",
        ]
        for key, row in list(found["per_class"].items())[:_MOST_SHOWN]:
            label = "none" if row["label"] is None else row["label"]
            iou, precision, recall, f1 = (_shown(row[name]) for name in ("iou", "precision", "recall", "f1"))
            lines.append(
                f"{printable(row['name']):{width}}  {label:>5}  {row['pixels']:>10}  {iou}      "
                f"{precision}   {recall}  {f1}  {_with_interval(adjusted['per_class'][key], 'area_share')}"
            )
        if (more := len(self.classes) - _MOST_SHOWN) > 0:
            lines.append(f"and {more} more classes (--json has all)")
        if self.strata:
            lines.append("label  share of the map      pixels  commonest class   accuracy")
            for row in found["strata"]:
                common = f"{row['commonest']} {_shown(row['commonest_share'])}" if row["pixels"] else "-"
                accuracy = _with_interval(row, "accuracy")
                lines.append(
                    f"{row['label']:>5}  {row['share']:>16.3f}  {row['pixels']:>10}  {common:16}  {accuracy}"
                )
        lines += [f"failed    {name}: {why}" for name, why in self.failed.items()]
        return "\n".join(map(printable, lines))


def _estimate(key: str, estimate: Estimate, index: Any) -> dict[str, Any]:
    low, high = estimate.interval
    ends = [_number(low[index]), _number(high[index])]
    return {key: _number(estimate.value[index]), f"{key}_ci95": None if None in ends else ends}


def _number(value: Any) -> float | None:
    return None if math.isnan(value) else float(value)


def _shown(value: float | None) -> str:
    return "    -" if value is None else f"{value:.3f}"


def _with_interval(values: dict[str, Any], key: str) -> str:
    interval = values[f"{key}_ci95"]
    return f"{_shown(values[key])}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def as_drawn(label_of: Counts, labels: int) -> Counts:
    """Labels in an order in which those of the classes come first, so that what is right is a diagonal."""
    matched = label_of[label_of >= 0]
    return np.concatenate([matched, np.setdiff1d(np.arange(labels), matched)])
