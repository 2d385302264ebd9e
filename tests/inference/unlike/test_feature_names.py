from fastcell.inference.unlike.feature_names import IMAGE_FEATURES, NUM_SHAPE_FEATURES, words_for


def test_every_feature_has_two_words_without_a_comma():
    for name in IMAGE_FEATURES:
        below, above = words_for(name, False), words_for(name, True)
        assert below != above
        assert not set(",;") & set(below + above)


def test_words_say_what_is_seen():
    assert words_for("radius", True) == "larger"
    assert words_for("background", False) == "darker background"
    assert words_for("noise_1", True) == "noisier"
    assert all(name.startswith("noise") for name in IMAGE_FEATURES[NUM_SHAPE_FEATURES:])
    assert not any(name.startswith("noise") for name in IMAGE_FEATURES[:NUM_SHAPE_FEATURES])
