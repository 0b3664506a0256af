"""The table of published weights is consistent, and its lookup says what exists."""

import pytest

from keras_t2t.weights.published import BASE_ADDRESS, PUBLISHED, address, find
from tests.parity import SPEC


def test_every_published_file_stands_once():
    assert len(PUBLISHED) == 15
    assert len({(row.variant, row.weights) for row in PUBLISHED}) == 15
    assert len({row.filename for row in PUBLISHED}) == 15


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row.filename)
def test_row_is_consistent(row):
    assert row.variant in SPEC["variants"]
    # The published file names carry the accuracy, which also tells rows that were mixed up.
    assert str(row.top1) in row.filename
    assert row.variant.rsplit("_", 1)[1] in row.filename.replace(str(row.top1), "")
    assert ("ViTt" in row.filename) == ("_t_" in row.variant)
    if row.remeasured is not None:
        assert abs(row.remeasured - row.top1) < 0.06
    assert row.preprocessing.height == (384 if row.weights == "imagenet384" else 224)
    assert (row.preprocessing.mean[0] == 0.4914) == row.weights.startswith("cifar")
    assert row.tested == (row.weights != "imagenet_token_labeling")


def test_known_size_is_that_of_one_state_dict():
    row = find("t2t_vit_14", "imagenet")
    overhead = row.size - 4 * SPEC["variants"]["t2t_vit_14"]["parameters"]
    assert 0 < overhead < 50_000
    assert len(bytes.fromhex(row.sha384)) == 48


def test_find_tells_weights_of_one_variant_apart():
    names = {find("t2t_vit_14", name).filename for name in ("imagenet", "imagenet384", "cifar10")}
    assert names == {
        "81.5_T2T_ViT_14.pth.tar",
        "83.3_T2T_ViT_14.pth.tar",
        "cifar10_t2t-vit_14_98.3.pth",
    }


def test_find_lists_what_exists_for_the_variant():
    with pytest.raises(ValueError, match="weights='imagenet21k' is not published") as caught:
        find("t2t_vit_19", "imagenet21k")
    assert "'imagenet', 'cifar10', 'cifar100', the path" in str(caught.value)


def test_find_lists_the_variants_where_nothing_is_published():
    with pytest.raises(ValueError, match="published for t2t_vit_14_se, .*t2t_vit_7, t2t_vit_10"):
        find("t2t_vit_14_se", "imagenet")


def test_address(monkeypatch):
    row = find("t2t_vit_t_14", "imagenet")
    monkeypatch.delenv("KERAS_T2T_WEIGHTS_URL", raising=False)
    assert address(row) == f"{BASE_ADDRESS}/81.7_T2T_ViTt_14.pth.tar"
    monkeypatch.setenv("KERAS_T2T_WEIGHTS_URL", "http://mirror.example/t2t/")
    assert address(row) == "http://mirror.example/t2t/81.7_T2T_ViTt_14.pth.tar"
    monkeypatch.setenv("KERAS_T2T_WEIGHTS_URL", "mirror.example/t2t")
    with pytest.raises(ValueError, match="KERAS_T2T_WEIGHTS_URL is 'mirror.example/t2t'"):
        address(row)
