"""Licences in the head of a card."""

import pytest

from fastcell.inference.sharing.licences import HUB_LICENCES, licence_fields


@pytest.mark.parametrize("written", ["cc-by-4.0", "CC-BY-4.0", " cc by 4.0 ", "CC_BY_4.0"])
def test_ways_to_write_one_licence(written):
    assert licence_fields(written) == {"license": "cc-by-4.0"}


def test_all_others():
    assert licence_fields("  ") == {"license": "unknown"}
    assert licence_fields("../x\n- y") == {"license": "other", "license_name": "x-y"}
    assert licence_fields("!!") == {"license": "other", "license_name": "other"}
    assert len(set(HUB_LICENCES)) == len(HUB_LICENCES)
