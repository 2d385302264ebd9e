"""Model cards: read by the Hub's own parser, with hostile names in every place."""

import re
from dataclasses import replace

import numpy as np
import pytest
from markdown_it import MarkdownIt

from fastcell.inference.sharing.card import CardFacts, markdown, write_card
from fastcell.inference.sharing.described_data import DescribedData
from fastcell.loading.preprocessing import Preprocessing

HOSTILE = "a|b\n---\n<script>alert(1)</script> [x](javascript:1) `c` **d** ${e} \x1b[31m \u202e: #f"


def score(value, low=None, high=None):
    return {"value": value, "low": low, "high": high, "by": "group", "note": ""}


def facts(name):
    """Facts whose names all are `name`."""
    counts = np.array([[10, 2, 3], [20, 4, 6]])
    data = DescribedData(
        name, name, name, "0123456789ab", "recorded cells", [name, "B"], counts, [3, 1, 1], "8 bit", True
    )
    of_class = {"num_cells": 3, "precision": score(0.5, 0.1, 0.9), "recall": score(0.25), "f_score": score(1.0, 0.5, 1)}
    scores = {
        "num_cells": 9, "num_groups": 1, "interval_by": "group", "interval_note": name,
        "accuracy": score(0.8, 0.6, 0.9), "balanced_accuracy": score(0.7), "classes": {name: of_class, "B": of_class},
    }  # fmt: skip
    return CardFacts(
        name, "model", name, "", 1234, [name, "B"], Preprocessing(image_size=32), name, "0.1.0", data, {name: name},
        "test", scores, [name], 0.8, True,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["donors", HOSTILE, "'\"\\", "- x", "", "# x", "$'$(id)'", "日本語 𝒞"])
def test_the_hub_reads_the_head(name):
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(write_card(facts(name)), ignore_metadata_errors=False)
    head = card.data.to_dict()
    assert (head["library_name"], head["pipeline_tag"]) == ("fastcell", "image-classification")
    assert head["license"] == ("unknown" if not name else "other")
    assert {"cytometry", "single-cell"} <= set(head["tags"])
    accuracy, balanced = card.data.eval_results
    assert (accuracy.metric_type, accuracy.metric_value, accuracy.dataset_split) == ("accuracy", 0.8, "test")
    assert accuracy.dataset_revision == "0123456789ab"
    arguments = {"num_cells": 9, "interval": 0.95, "low": 0.6, "high": 0.9, "by": "group"}
    assert (accuracy.metric_args, accuracy.metric_name) == (arguments, "accuracy (0.600 to 0.900)")
    assert (balanced.metric_args, balanced.metric_name) == ({"num_cells": 9}, "balanced accuracy (no interval)")


def test_names_do_nothing_in_the_text():
    text = write_card(facts(HOSTILE))
    assert "\x1b" not in text
    assert "\u202e" not in text
    _, _, body = text[4:].partition("\n---\n")
    page = MarkdownIt("commonmark").enable("table").render(body)
    assert "<script" not in page
    assert "<a " not in page
    assert "<strong" not in page
    rows = [len(re.findall("<t[dh]>", row)) for row in re.findall("<tr>.*?</tr>", page, re.DOTALL)]
    assert set(rows) == {2, 5, 3}  # no name opens a further column
    plain, hostile = (write_card(facts(name)).count("\n") for name in ("donors", HOSTILE))
    assert plain == hostile


def test_the_precision_of_a_class_that_is_never_predicted_is_a_dash():
    of_class = {"num_cells": 3, "precision": score(0.0) | {"note": "no cell is called this"}, "recall": score(0.0)}
    shown = facts("x")
    text = write_card(replace(shown, scores=dict(shown.scores) | {"classes": {"x": of_class}}))
    assert "| x | 3 | - | 0.000 (no interval) |" in text


def test_what_is_not_known_is_said():
    text = write_card(
        replace(facts("x"), data=None, scores={}, training={}, licence="", temperature=None, finds_unlike=False)
    )
    assert "license: unknown" in text
    for sentence in (
        "The data set of the training was not at hand when this card was written.",
        "The weights were not scored on labelled cells.",
        "The settings of the training are not known.",
        "| calibration | none: probabilities are those of the network |",
        "none given: ask the author before you use or pass them on",
    ):
        assert sentence in text
    changed = replace(facts("x"), data=replace(facts("x").data, is_that_of_training=False))
    assert "Its training cells differ from those of the run" in write_card(changed)
    assert "revision" not in write_card(changed).split("---\n")[1]
    own = write_card(replace(facts("x"), package="my_package"))
    assert "fastcell.load('model', trust=['my_package'])" in own
    assert "--trust my_package" in own


def test_escapes():
    assert markdown("a_b *c* <d> | e") == r"a\_b \*c\* \<d\> \| e"
    assert markdown("one\ntwo") == r"one\\ntwo"
