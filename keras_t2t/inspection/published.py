"""Published accuracy and cost: of the variants, and of ViT, ResNet and MobileNet beside them."""

from typing import NamedTuple

from keras_t2t.weights.published import PUBLISHED


class Published(NamedTuple):
    """One row of a published table, 224 px, trained on ImageNet-1k alone.

    Attributes:
        name: str, published name of a variant, or the model's name in the paper.
        family: str, what is drawn as one line.
        top1: float, top-1 accuracy in percent.
        parameters: float, millions.
        macs: float, multiply-accumulates for one image, 1e9.
        source: str, where the row stands.
    """

    name: str
    family: str
    top1: float
    parameters: float
    macs: float
    source: str


_README = "README of the published implementation"
# Yuan et al., ICCV 2021 (arXiv 2101.11986v3).
_TABLE_2, _TABLE_3, _TABLE_4, _TABLE_6 = (f"T2T-ViT paper, table {n}" for n in (2, 3, 4, 6))

# The paper gives the Ghost variant 14 blocks and the Wide one 14; the parameters it gives are
# those of the published code's 16 and 4.
ABLATIONS = (
    Published("t2t_vit_14_resnext", "ablation", 81.5, 21.5, 4.8, _TABLE_6),
    Published("t2t_vit_14_wide", "ablation", 77.9, 25.1, 5.0, _TABLE_6),
    Published("t2t_vit_14_se", "ablation", 81.6, 21.9, 4.9, _TABLE_6),
    Published("t2t_vit_16_ghost", "ablation", 79.5, 16.3, 3.7, _TABLE_6),
    Published("t2t_vit_dense", "ablation", 80.6, 23.7, 5.5, _TABLE_6),
)

# What `complexity` counts is the published figure, but for these: t2t_vit_24 (13.66 counted, 13.8
# published), t2t_vit_14_wide (5.23, 5.0; without the attention's products it is 4.96),
# t2t_vit_14_se (4.78, 4.9), t2t_vit_16_ghost (3.80, 3.7) and t2t_vit_dense (5.28, 5.5).
VARIANTS = (
    *(
        Published(
            row.variant,
            "T2T-ViT_t" if "_t_" in row.variant else "T2T-ViT",
            row.top1,
            row.parameters,
            row.macs,
            _README,
        )
        for row in PUBLISHED
        if row.parameters is not None and row.macs is not None
    ),
    *ABLATIONS,
)

# ResNet* and MobileNet*: trained by the paper's authors with T2T-ViT's training scheme.
OTHERS = (
    Published("ViT-S/16", "ViT", 78.1, 48.6, 10.1, _TABLE_2),
    Published("ViT-B/16", "ViT", 79.8, 86.4, 17.6, _TABLE_2),
    Published("ViT-L/16", "ViT", 81.1, 304.3, 63.6, _TABLE_2),
    Published("ResNet50", "ResNet", 76.2, 25.5, 4.3, _TABLE_3),
    Published("ResNet101", "ResNet", 77.4, 44.6, 7.9, _TABLE_3),
    Published("ResNet152", "ResNet", 78.3, 60.2, 11.6, _TABLE_3),
    Published("ResNet50*", "ResNet*", 79.1, 25.5, 4.3, _TABLE_3),
    Published("ResNet101*", "ResNet*", 79.9, 44.6, 7.9, _TABLE_3),
    Published("ResNet152*", "ResNet*", 80.8, 60.2, 11.6, _TABLE_3),
    Published("MobileNetV1*", "MobileNet*", 70.8, 4.2, 0.6, _TABLE_4),
    Published("MobileNetV2*", "MobileNet*", 72.8, 3.5, 0.3, _TABLE_4),
    Published("MobileNetV2 1.4x*", "MobileNet*", 75.6, 6.9, 0.6, _TABLE_4),
)
