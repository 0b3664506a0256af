"""The published variants: one table of what tells their architectures apart."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """One published architecture: the arguments of `T2TViT` in which variants differ.

    Attributes:
        embed_dim: int, channels of the encoder (at its start, for the dense flavour).
        depth: int, encoder blocks; for the dense flavour a tuple, those of each stage.
        num_heads: int, attention heads of the encoder.
        mlp_ratio: float, hidden units of the encoder's MLPs for each channel.
        token_mixer: `"performer"` or `"transformer"`, the attention of the T2T blocks.
        flavor: `"plain"`, `"squeeze_excite"`, `"ghost"` or `"dense"`, the encoder's blocks.
        growth_rate: int, channels that each block of the dense flavour adds.
    """

    embed_dim: int
    depth: int | tuple[int, ...]
    num_heads: int
    mlp_ratio: float = 3.0
    token_mixer: str = "performer"
    flavor: str = "plain"
    growth_rate: int = 64


# By published name. Source: the factories of `models/t2t_vit.py` and its siblings.
VARIANTS = {
    "t2t_vit_7": Variant(256, 7, 4, mlp_ratio=2.0),
    "t2t_vit_10": Variant(256, 10, 4, mlp_ratio=2.0),
    "t2t_vit_12": Variant(256, 12, 4, mlp_ratio=2.0),
    "t2t_vit_14": Variant(384, 14, 6),
    "t2t_vit_19": Variant(448, 19, 7),
    "t2t_vit_24": Variant(512, 24, 8),
    "t2t_vit_t_14": Variant(384, 14, 6, token_mixer="transformer"),
    "t2t_vit_t_19": Variant(448, 19, 7, token_mixer="transformer"),
    "t2t_vit_t_24": Variant(512, 24, 8, token_mixer="transformer"),
    "t2t_vit_14_resnext": Variant(384, 14, 32),
    "t2t_vit_14_wide": Variant(768, 4, 12),
    "t2t_vit_14_se": Variant(384, 14, 6, flavor="squeeze_excite"),
    "t2t_vit_16_ghost": Variant(384, 16, 6, flavor="ghost"),
    "t2t_vit_dense": Variant(128, (3, 6, 6, 4), 8, mlp_ratio=2.0, flavor="dense"),
}


def list_variants() -> list[str]:
    """The published names of all variants, as `create` takes them."""
    return list(VARIANTS)
